"""Finds and ends processes by a mark in their environment.

A process group is not enough, because user data that becomes a daemon leaves its group. Every
process that a local AWS starts inherits a variable with a random value, and this module looks for
the variable. It works on Linux only. Other systems have only the process groups.
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
    """List the live processes that started with `name=value` in their environment.

    This process is left out.
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
    """Say whether a process has ended. A zombie, which waits for its parent, counts as ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (OSError, IndexError):
        return True


def send(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to each process. Processes that have ended are ignored."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def kill_marked(name: str, value: str, deadline_s: float = 3.0) -> int:
    """Kill every process with the mark, also those that start meanwhile; return their number."""
    seen: set[int] = set()
    end = time.monotonic() + deadline_s
    while (alive := find_marked(name, value)) and time.monotonic() < end:
        seen.update(alive)
        send(alive, signal.SIGKILL)
        time.sleep(0.01)
    return len(seen)
