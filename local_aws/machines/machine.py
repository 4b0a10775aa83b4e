"""The process group of one instance: boot, console, power and end."""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from local_aws.machines import bounds
from local_aws.machines.imds import Metadata, MetadataServer
from local_aws.machines.power import PowerButton
from local_aws.machines.processes import (
    CAN_FIND_MARKED,
    MACHINE_MARK,
    MARK,
    find_marked,
    kill_marked,
    send,
)
from local_aws.machines.reaper import Reaper

BUSY_TRIES = 50
GRACE_S = 10.0
"""Seconds between SIGTERM and SIGKILL for processes that do not end by themselves. systemd waits 90
s."""


@dataclass(frozen=True)
class Host:
    """What all machines of an account share.

    :param folder: the folder that contains the machines' folders.
    :param ami: the environment whose `bin` comes after the power commands on PATH.
    :param endpoint_url: the address of the local AWS.
    :param process_mark: the mark in the environment of each process.
    """

    folder: Path
    ami: Path
    endpoint_url: str
    region: str
    process_mark: str
    reaper: Reaper


class MachineProcess:
    """A process group that lives as long as its instance.

    :param user_data: the user data as EC2 decoded it. Only a script is run, as by cloud-init.
    :param on_power_off: called once when the machine shuts itself down.
    """

    def __init__(
        self,
        host: Host,
        instance_id: str,
        user_data: bytes,
        metadata: Metadata,
        on_power_off: Callable[[], None],
    ) -> None:
        self._host = host
        self.instance_id = instance_id
        self.folder = host.folder / instance_id
        self.console = self.folder / "console.log"
        self.bounds_log = self.folder / "out-of-bounds.log"
        self._work = self.folder / "root"
        self._script = decompress(user_data)
        self._process: subprocess.Popen[bytes] | None = None
        self._off = threading.Event()
        self._lock = threading.Lock()
        self._on_power_off = on_power_off
        self._work.mkdir(parents=True)
        (self.folder / "tmp").mkdir()
        self.console.touch()
        self.imds = MetadataServer(metadata)
        self.power = PowerButton(self.folder, self.say, self._power_off)

    def environment(self) -> dict[str, str]:
        """Return the complete environment of the user data, which has nothing of the host's."""
        guard = bounds.install_guard(self.folder / "lib")
        return {
            "PATH": f"{self.folder}/bin:{self._host.ami}/bin:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self._work),
            "TMPDIR": str(self.folder / "tmp"),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(guard),
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": self.imds.endpoint,
            "AWS_ENDPOINT_URL": self._host.endpoint_url,
            "AWS_REGION": self._host.region,
            "AWS_DEFAULT_REGION": self._host.region,
            "LOCAL_AWS_POWER": str(self.power.fifo),
            "LOCAL_AWS_BOUNDS_LOG": str(self.bounds_log),
            MARK: self._host.process_mark,
            MACHINE_MARK: self.instance_id,
        }

    def boot(self) -> None:
        """Run the user data in a new process group. The instance outlives it, as on EC2."""
        self.say(f"{self.instance_id} boots")
        if not self._script.startswith(b"#!"):
            if self._script.strip():
                self.say("the user data is not a script (it lacks #!): cloud-init would not run it")
            return
        path = self.folder / "user-data"
        path.write_bytes(self._script)
        path.chmod(0o700)
        with self._lock, self.console.open("ab") as log:
            if self._off.is_set():
                return
            self._process = start_script(path, self._work, self.environment(), log)
            self._host.reaper.watch(self._process.pid)
            process = self._process
        threading.Thread(
            target=self._await_user_data, args=[process], daemon=True, name="user-data"
        ).start()

    def _await_user_data(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the end of the user data and write its exit status to the console."""
        status = process.wait()
        if not self._off.is_set():
            self.say(f"the user data ended with exit status {status}")

    def say(self, text: str) -> None:
        """Write a message of the local AWS to the console."""
        with contextlib.suppress(OSError), self.console.open("a") as log:
            log.write(f"[local AWS] {text}\n")

    def _power_off(self) -> None:
        """Report that the machine shut itself down."""
        if not self._off.is_set():
            self.say("power off")
            self._on_power_off()

    def stop(self, grace_s: float = GRACE_S) -> None:
        """End every process of the machine and erase its disk. The console stays.

        :param grace_s: seconds between SIGTERM and SIGKILL.
        """
        with self._lock:
            self._off.set()
            process = self._process
        if process:
            self._signal_all(process.pid, signal.SIGTERM)
            self._signal_all(process.pid, signal.SIGCONT)
            self._await_end(process, grace_s)
            self._signal_all(process.pid, signal.SIGKILL)
            kill_marked(MACHINE_MARK, self.instance_id)
            process.wait(timeout=5)
            self._host.reaper.forget(process.pid)
        # Close these last: user data that powers off at SIGTERM would wait for a reader.
        self.power.close()
        self.imds.close()
        self._erase()

    def _erase(self) -> None:
        """Remove the files of the instance's disk."""
        for part in (self._work, self.folder / "tmp", self.folder / "bin", self.folder / "lib"):
            shutil.rmtree(part, ignore_errors=True)
        self.power.fifo.unlink(missing_ok=True)

    def _signal_all(self, group: int, number: signal.Signals) -> None:
        """Send a signal to the process group and to the processes that have left it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)
        send(
            [pid for pid in find_marked(MACHINE_MARK, self.instance_id) if _group(pid) != group],
            number,
        )

    def _await_end(self, process: subprocess.Popen[bytes], within_s: float) -> None:
        """Wait until no process of the machine is alive, or the time is over."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            if process.poll() is not None and not self._is_alive(process.pid):
                return
            time.sleep(0.03)

    def _is_alive(self, group: int) -> bool:
        """Say whether a process of the machine is alive. Zombies do not count."""
        if CAN_FIND_MARKED:
            return bool(find_marked(MACHINE_MARK, self.instance_id))
        return _has_members(group)

    def freeze(self) -> None:
        """Suspend every process of the machine without ending it."""
        if self._process:
            self._signal_all(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue every suspended process of the machine."""
        if self._process:
            self._signal_all(self._process.pid, signal.SIGCONT)


def start_script(
    path: Path, folder: Path, environment: dict[str, str], log: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start a script that has just been written, in its own process group.

    If another thread forks at the same moment, its child holds our file descriptor for writing, and
    the kernel answers "text file busy". Then the start is tried again.
    """
    for _ in range(BUSY_TRIES):
        try:
            return _popen(path, folder, environment, log)
        except OSError as error:
            if error.errno != errno.ETXTBSY:
                raise
            time.sleep(0.02)
    return _popen(path, folder, environment, log)


def _popen(
    path: Path, folder: Path, environment: dict[str, str], log: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start a program in its own session, with its output in the log."""
    return subprocess.Popen(
        [str(path)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def decompress(user_data: bytes) -> bytes:
    """Return the user data as cloud-init reads it: gzip is decompressed."""
    return gzip.decompress(user_data) if user_data[:2] == b"\x1f\x8b" else user_data


def _group(pid: int) -> int:
    """Return the process group of a process, or 0 if the process has ended."""
    try:
        return os.getpgid(pid)
    except OSError:
        return 0


def _has_members(group: int) -> bool:
    """Say whether a process group has a member."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
