"""Trials on several machines, each a process on an address of its own, with kills."""

import contextlib
import fcntl
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil

from tests.trainer.conftest import Done, TrainerProcess
from tests.trainer.environments.processes import workers_of
from tests.trainer.gangs.paced_env import PACE_FILE

#: Exit status of a machine that was told to stop, and of one that a later attempt replaced.
STOPPED, REPLACED = 75, 76
#: Exit status of a machine of which a collecting process was killed.
OUT_OF_MEMORY = 71
#: Seconds that a training may take here.
PATIENCE_S = 240.0
#: Seconds that a step waits, so that a training lasts while something happens to its machines.
PACE_S = 0.006


class Machines:
    """The machines of one trial: seat → process. A machine that ends badly is replaced at once.

    :param start: starts `python -m rl_trainer`.
    :param addresses: the first three numbers of their addresses, such as `127.9.1`.
    """

    def __init__(
        self, start: Callable[..., TrainerProcess], spec: Path, store: Path, addresses: str
    ) -> None:
        self._start, self._spec, self.store, self._addresses = start, spec, store, addresses
        self._pace = store.with_name(f"{store.name}-pace")
        self.pace(PACE_S)
        self.processes: dict[int, TrainerProcess] = {}
        self._boots: dict[int, int] = {}
        self.ends: list[tuple[int, int]] = []
        #: Seconds that a new learner waits for all machines.
        self.gather_s = 60.0
        #: Machines that are not replaced before :meth:`boot`, and those that may lack memory.
        self.away: set[int] = set()
        self._short_of_memory: set[int] = set()
        self._stopped: list[psutil.Process] = []

    def boot(self, seats: Iterable[int]) -> None:
        """Start machines."""
        for seat in seats:
            self.away.discard(seat)
            self._short_of_memory.discard(seat)
            self._boots[seat] = self._boots.get(seat, 0) + 1
            role = ["train"] if seat == 0 else ["collect", "--seat", str(seat)]
            self.processes[seat] = self._start(
                *role,
                *("--spec", str(self._spec), "--store", str(self.store), "--json"),
                *("--address", self.address(seat), "--attempt", str(self._boots[seat])),
                env={PACE_FILE: str(self._pace), "TEST_GATHER_S": str(self.gather_s)},
            )

    def address(self, seat: int) -> str:
        """The address of a machine."""
        return f"{self._addresses}.{seat + 1}"

    def pace(self, seconds: float) -> None:
        """Let every step of an environment wait for so long."""
        written = self._pace.with_suffix(".new")
        written.write_text(str(seconds))
        written.replace(self._pace)

    def kill(self, seat: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a machine."""
        self.processes[seat].send_signal(number)

    def end_vanished(self) -> None:
        """Kill every process of machines that have vanished: a stopped one outlives its parent."""
        for process in self._stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._stopped = []

    def vanish(self, seat: int) -> None:
        """Stop every process of a machine, so that no connection is closed.

        None may be stopped while it has the lock of the folder, which S3 does not have.
        """
        with (
            contextlib.suppress(psutil.NoSuchProcess),  # it has just ended
            (self.store / ".lock").open("a") as lock,
        ):
            fcntl.flock(lock, fcntl.LOCK_EX)
            machine = psutil.Process(self.processes[seat].pid)
            for process in [machine, *machine.children(recursive=True)]:
                self._stopped.append(process)
                process.send_signal(signal.SIGSTOP)

    def kill_part(self, seat: int, rng: random.Random) -> bool:
        """Kill a process of a machine that collects or steps. :return: whether there was one."""
        machine = self.processes[seat]
        parts = sorted(workers_of(machine.pid)) if machine.poll() is None else []
        if parts:
            self._short_of_memory.add(seat)
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(parts), signal.SIGKILL)
        return bool(parts)

    def wake(self, seat: int) -> None:
        """Continue the processes of a machine."""
        wake(self.processes[seat].pid)

    def tend(self) -> Done | None:
        """Replace machines that have ended badly. :return: the learner's end if it is done."""
        for seat, process in list(self.processes.items()):
            if (code := process.poll()) is None or code == 0:
                continue
            expected = code < 0 or code in (STOPPED, REPLACED)
            killed = code == OUT_OF_MEMORY and seat in self._short_of_memory
            assert expected or killed, process.finish().stderr
            if seat not in self.away:
                self.ends.append((seat, code))
                self.boot([seat])
        learner = self.processes.get(0)
        return learner.finish() if learner is not None and learner.poll() == 0 else None

    @property
    def running(self) -> list[int]:
        """The machines that run; all if none does."""
        running = [seat for seat, one in self.processes.items() if one.poll() is None]
        return sorted(running or self.processes)

    @property
    def trains(self) -> bool:
        """Whether the newest learner trains."""
        beat = self._beat(0)
        return beat.get("state") == "training" and beat.get("attempt") == self._boots[0]

    def until(self, condition: Callable[[], bool]) -> None:
        """Tend the machines until something is so."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, self.tell()
            assert self.tend() is None, "the training has ended before"
            time.sleep(0.02)

    def to_the_end(self) -> dict[str, Any]:
        """Tend the machines until the training and every machine has ended.

        :return: what the learner prints.
        """
        self.pace(0)
        deadline = time.monotonic() + PATIENCE_S
        while (done := self.tend()) is None:
            assert time.monotonic() < deadline, self.tell()
            time.sleep(0.02)
        for seat, process in self.processes.items():
            assert process.finish(60).returncode == 0, (seat, process.finish().stderr)
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def tell(self) -> str:
        """What all machines have said, for a failed test."""
        return "\n".join(f"seat {seat}: {one._text('err')}" for seat, one in self.processes.items())

    @property
    def step(self) -> int:
        """The step of the newest checkpoint."""
        heads = list(self.store.glob("checkpoints/*/*/*/head.json"))
        return int(json.loads(heads[0].read_text())["step"]) if heads else 0

    @property
    def generations(self) -> list[dict[str, Any]]:
        """All generations that learners have written."""
        paths = sorted(self.store.glob("gangs/*/*/*/*.json"))
        return [json.loads(path.read_text()) for path in paths]

    @property
    def gang(self) -> dict[str, Any]:
        """What the learner's heartbeat tells of its gang; empty before the first one."""
        return dict(self._beat(0).get("gang") or {})

    def join(self, seat: int) -> None:
        """Start a machine, and wait until it collects. Meanwhile the training hardly goes on."""
        self.pace(0.1)
        if seat not in self.processes:
            self.boot([seat])
        self.until(lambda: self._is_ready(seat))
        nonce = self._beat(seat)["announcement"]["nonce"]
        self.pace(PACE_S)
        self.until(lambda: self._collects(nonce))

    def _beat(self, seat: int) -> dict[str, Any]:
        """The newest heartbeat of a machine; empty before the first one."""
        name = f"seed-0.{seat}.json" if seat else "seed-0.json"
        paths = list(self.store.glob(f"heartbeats/*/*/{name}"))
        return dict(json.loads(paths[0].read_text())) if paths else {}

    def _is_ready(self, seat: int) -> bool:
        """Whether the newest machine of a seat waits for the learner's call."""
        beat = self._beat(seat)
        return beat.get("state") == "waiting" and beat["attempt"] == self._boots[seat]

    def _collects(self, nonce: str) -> bool:
        """Whether a machine is a member of the newest generation, and that one trains."""
        newest = self.generations[-1]
        named = any(member["nonce"] == nonce for member in newest["members"])
        return named and self.gang.get("generation") == newest["generation"]

    def seats_now(self) -> set[int]:
        """The machines that the learner collects with."""
        return {member["seat"] for member in self.gang.get("members", ())}


def wake(pid: int) -> None:
    """Continue a process and all below it."""
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        process.send_signal(signal.SIGCONT)


def listening_addresses(pid: int) -> set[str]:
    """The addresses on which a process and its children listen."""
    found = set()
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        for one in process.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN:
                found.add(one.laddr.ip)
    return found
