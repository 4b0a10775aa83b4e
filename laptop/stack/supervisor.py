"""Run processes and start again what exits, as compose's `restart: unless-stopped` does."""

import contextlib
import math
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from laptop.airflow import wait_for
from laptop.stack.timeouts import STOP_GRACE_S

#: Docker waits 0.1 s before the first restart, and twice as long before each further one. A process
#: that ran for ten seconds counts as started.
#: https://docs.docker.com/engine/containers/start-containers-automatically/
FIRST_PAUSE_S, LONGEST_PAUSE_S, STARTED_AFTER_S = 0.1, 60.0, 10.0
LOOK_EVERY_S = 0.1
#: The exit code of the image's checks, and how often in a row it counts as final. A database that
#: is away for a moment gives it, too.
REFUSED, MOST_REFUSALS = 2, 3
#: The system counts a process's begin from its own start, which moves with the clock.
CLOCK_S = 2.0


@dataclass(frozen=True)
class Program:
    """How a process is started.

    :param user: the number of the user that it runs as. None means ours.
    :param stop_signal: the signal that asks it to end.
    """

    command: tuple[str, ...]
    environment: dict[str, str]
    folder: Path
    log: Path
    restarts: bool = True
    user: int | None = None
    stop_signal: int = signal.SIGTERM


@dataclass
class _Running:
    program: Program
    process: "subprocess.Popen[bytes] | None" = None
    began: float = 0.0
    born: float = math.inf
    next_start: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    held: bool = False
    starts: int = 0
    refusals: int = 0


class Supervisor:
    """Processes by name. Its thread starts again what exits and was not stopped.

    :param pids: a file that names the processes, for :func:`stop_leftovers`.
    """

    def __init__(self, pids: Path) -> None:
        self._pids = pids
        self._known: dict[str, _Running] = {}
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def start(self, name: str, program: Program | None = None) -> None:
        """Start a process: a new one, or one that was stopped."""
        with self._lock:
            if program is not None:
                self._known[name] = _Running(program)
            running = self._known[name]
            running.held = False
            self._launch(running)

    def stop(self, names: Iterable[str], how: int | None = None) -> None:
        """End processes, and start them no more; after the grace period with SIGKILL.

        :param how: the signal. None means the one that the program asks for.
        """
        stopped = []
        with self._lock:
            for name in names:
                running = self._known[name]
                running.held = True
                if running.process is not None:
                    stopped.append(running.process)
                    _signal(running.process, how or running.program.stop_signal, group=False)
        wait_for(lambda: all(one.poll() is not None for one in stopped), STOP_GRACE_S, 0.1)
        for one in stopped:
            _signal(one, signal.SIGKILL, group=True)
            one.wait()

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process, which is started again when it exits."""
        with self._lock:
            process = self._known[name].process
        if process is not None:
            _signal(process, number, group=number == signal.SIGKILL)

    def pid(self, name: str) -> int | None:
        """Return the process's number. None: it does not run now."""
        with self._lock:
            process = self._known[name].process
            return process.pid if process is not None and process.poll() is None else None

    def starts(self, name: str) -> int:
        """Return how often the process was started."""
        return self._known[name].starts

    def find_refusal(self) -> tuple[str, str] | None:
        """Find a process whose checks refuse each start. :return: its name and its last line"""
        with self._lock:
            for name, running in self._known.items():
                if running.refusals >= MOST_REFUSALS:
                    lines = running.program.log.read_text(errors="replace").split("\n")
                    said = [line for line in lines if line.startswith("error: ")]
                    return name, said[-1].removeprefix("error: ") if said else "it does not start"
        return None

    def names(self) -> list[str]:
        """Return all names in the order of the first start."""
        return list(self._known)

    def wait(self) -> None:
        """Wait until another thread closes this; restarts go on meanwhile."""
        self._thread.join()

    def close(self, last: Iterable[str] = ()) -> None:
        """End everything.

        :param last: the names of what all others need, which end after them.
        """
        self._over.set()
        self._thread.join()
        servers = [name for name in last if name in self._known]
        self.stop(name for name in reversed(self._known) if name not in servers)
        self.stop(servers)
        self._pids.unlink(missing_ok=True)

    def _watch(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            with self._lock:
                for running in self._known.values():
                    self._look_at(running)

    def _look_at(self, running: _Running) -> None:
        process, now = running.process, time.monotonic()
        if process is not None and process.poll() is not None:
            running.process = None
            running.refusals = running.refusals + 1 if process.returncode == REFUSED else 0
            _signal(process, signal.SIGKILL, group=True)  # a container's processes end together
            if now - running.began > STARTED_AFTER_S:
                running.pause_s = FIRST_PAUSE_S
            running.next_start = now + running.pause_s
            running.pause_s = min(2 * running.pause_s, LONGEST_PAUSE_S)
        if (
            running.process is None
            and running.program.restarts
            and not running.held
            and now >= running.next_start
        ):
            self._launch(running)

    def _launch(self, running: _Running) -> None:
        program = running.program
        with program.log.open("ab") as log:
            running.process = subprocess.Popen(
                program.command,
                cwd=program.folder,
                env=program.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=program.user,
                group=program.user,
                extra_groups=None if program.user is None else [],
            )
        running.began = time.monotonic()
        running.starts += 1
        running.born = _born(running.process.pid)
        self._pids.write_text(
            "".join(
                f"{one.process.pid} {one.born}\n" for one in self._known.values() if one.process
            )
        )


def stop_leftovers(pids: Path) -> None:
    """Kill the processes of a runner that was killed itself.

    A number in the file may belong to another process by now, which began at another time.

    :param pids: the file of a :class:`Supervisor`.
    """
    for line in pids.read_text().splitlines() if pids.exists() else ():
        number, _, born = line.partition(" ")
        if abs(_born(int(number)) - float(born)) < CLOCK_S:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(number), signal.SIGKILL)
    pids.unlink(missing_ok=True)


def _born(pid: int) -> float:
    """Return when a process began, which with its number names it. Infinite: there is none."""
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return math.inf


def _signal(process: "subprocess.Popen[bytes]", number: int, *, group: bool) -> None:
    with contextlib.suppress(ProcessLookupError):
        if group:
            os.killpg(process.pid, number)
        elif process.poll() is None:
            process.send_signal(number)
