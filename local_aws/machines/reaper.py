"""A process that outlives a killed server just long enough to kill what the server left.

It reads from a pipe that only the server can write to. End of file means that the server is gone,
however it went. Groups are told by number, because a mark in the environment can be looked for on
Linux only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import IO, cast

from local_aws.machines.processes import MARK, kill_marked


def main(process_mark: str) -> None:
    """Wait for the server's end, then kill its groups and everything that bears its mark."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        number = int(line)
        groups.add(number) if number > 0 else groups.discard(-number)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    kill_marked(MARK, process_mark)


class Reaper:
    """The server's end of the pipe."""

    def __init__(self, process_mark: str) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "local_aws.machines.reaper", process_mark],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        self._pipe = cast(IO[bytes], self._process.stdin)

    def watch(self, group: int) -> None:
        """Kill this process group when the server dies."""
        self._tell(group)

    def forget(self, group: int) -> None:
        """Stop watching a group that has ended: its number may be reused."""
        self._tell(-group)

    def _tell(self, number: int) -> None:
        """Write one line; a reaper that is gone is no reason to fail a launch."""
        with self._lock, contextlib.suppress(BrokenPipeError):
            self._pipe.write(f"{number}\n".encode())
            self._pipe.flush()

    def close(self) -> None:
        """Let it finish its work now, and wait for it."""
        with self._lock:
            self._pipe.close()
        self._process.wait(timeout=5)


if __name__ == "__main__":
    main(sys.argv[1])
