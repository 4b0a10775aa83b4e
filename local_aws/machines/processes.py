"""Finding and ending processes by the mark that the local AWS leaves in their environment.

A process group alone is not enough: user data that daemonises leaves its group. Every process a
twin starts inherits a variable with the twin's random name, and that is what is looked for here.
Linux only; elsewhere groups must do.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

MARK = "LOCAL_AWS_TWIN"
MACHINE_MARK = "LOCAL_AWS_MACHINE"
CAN_FIND_MARKED = Path("/proc/self/environ").exists()


def find_marked(name: str, value: str) -> list[int]:
    """List live processes whose environment held `name=value` when they were started, this one
    excepted.
    """
    wanted, found = f"{name}={value}".encode(), []
    for entry in Path("/proc").glob("[0-9]*") if CAN_FIND_MARKED else ():
        try:
            inherited = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if (
            wanted in inherited
            and int(entry.name) != os.getpid()
            and not is_zombie(int(entry.name))
        ):
            found.append(int(entry.name))
    return found


def is_zombie(pid: int) -> bool:
    """Say whether a process has ended and only waits for its parent, or is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (OSError, IndexError):
        return True


def send(pids: list[int], number: signal.Signals) -> None:
    """Signal each process, forgetting those that are gone."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def kill_marked(name: str, value: str, deadline_s: float = 3.0) -> int:
    """Kill every process that carries the mark, also those born meanwhile; return how many were
    seen.
    """
    seen: set[int] = set()
    end = time.monotonic() + deadline_s
    while (alive := find_marked(name, value)) and time.monotonic() < end:
        seen.update(alive)
        send(alive, signal.SIGKILL)
        time.sleep(0.01)
    return len(seen)
