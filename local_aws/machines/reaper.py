"""A process that kills what a killed server left behind, and then ends.

It reads from a pipe to which only the server can write. End of file means that the server has
ended, for any reason. The server sends the numbers of process groups, because marks in the
environment can be found on Linux only.
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
    """Wait for the server's end, then kill its process groups and every process with its mark."""
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
    """The server's end of the pipe. Its creation starts the reaper's process."""

    def __init__(self, process_mark: str) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "local_aws.machines.reaper", process_mark],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        self._pipe = cast(IO[bytes], self._process.stdin)

    def watch(self, group: int) -> None:
        """Let the reaper kill this process group when the server dies."""
        self._tell(group)

    def forget(self, group: int) -> None:
        """Let the reaper forget a group that has ended, because its number may be reused."""
        self._tell(-group)

    def _tell(self, number: int) -> None:
        """Write one line. A reaper that has ended is ignored, so that no launch fails."""
        with self._lock, contextlib.suppress(BrokenPipeError):
            self._pipe.write(f"{number}\n".encode())
            self._pipe.flush()

    def close(self) -> None:
        """Let the reaper finish its work now, and wait for its end."""
        with self._lock:
            self._pipe.close()
        self._process.wait(timeout=5)


if __name__ == "__main__":
    main(sys.argv[1])
