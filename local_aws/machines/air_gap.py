"""The air gap for programs other than Python: finds, reports and ends connections to the outside.

Without root, the server cannot prevent a connection of a machine or function. So it reads the
kernel's tables several times a second, and kills each process that is connected beyond this
machine. It misses connections that begin and end between two looks.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from local_aws.machines.bounds import Connection, outside_connections, socket_inodes
from local_aws.machines.processes import MACHINE_MARK, MARK, find_marked, send

log = logging.getLogger("local_aws")
LOOK_EVERY_S = 0.2
FUNCTION_NAME = "AWS_LAMBDA_FUNCTION_NAME"
LOOKUP_PORT = ":53"
"""Name look-ups are only reported. A library may look up the host's own name, and on AWS the
resolver of a VPC answers without a route to the outside."""


class AirGapWatch:
    """Watches the connections of this account's processes to anywhere beyond this machine.

    :param process_mark: the mark in the environment of these processes.
    :param is_needed: says whether such a process may be running. If there is none, nothing is read
        until :meth:`wake` is called.
    """

    def __init__(self, process_mark: str, is_needed: Callable[[], bool]) -> None:
        self._process_mark = process_mark
        self._is_needed = is_needed
        self._stop = threading.Event()
        self._woken = threading.Event()
        self._judged: set[int] = set()
        self._seen: dict[tuple[str, str], str] = {}
        self._thread = threading.Thread(target=self._run, daemon=True, name="watch")

    def start(self) -> None:
        """Start to watch."""
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._woken.set()

    def wake(self) -> None:
        """Look again whether the watch is needed, because a process has started."""
        self._woken.set()

    def _run(self) -> None:
        """Watch until :meth:`close` is called."""
        while not self._stop.wait(LOOK_EVERY_S):
            self._woken.clear()
            try:
                if self._is_needed():
                    self.look(outside_connections())
                else:
                    self._woken.wait()
            except Exception:  # a process may end during a look; the next look tries again
                log.exception("looking for connections beyond this machine")

    def look(self, connections: list[Connection]) -> None:
        """Report and end the account's processes that hold one of the connections.

        Connections of other processes are examined once.
        """
        fresh = {c.inode: c for c in connections if c.inode and c.inode not in self._judged}
        self._judged = {c.inode for c in connections if c.inode}
        for pid in find_marked(MARK, self._process_mark) if fresh else ():
            held = [fresh[inode] for inode in socket_inodes(pid) & set(fresh)]
            if held:
                self._catch(pid, held)

    def _catch(self, pid: int, held: list[Connection]) -> None:
        """Report a process, and kill it if it does more than look up a name."""
        who, program = describe(pid)
        for connection in held:
            self._seen.setdefault((who, connection.address), program)
            log.warning(
                "%s (%s, process %d) is connected to %s", who, program, pid, connection.address
            )
        if any(not connection.address.endswith(LOOKUP_PORT) for connection in held):
            send([pid], signal.SIGKILL)

    def seen(self) -> list[dict[str, str]]:
        """Return the connections that were found, each pair of owner and address once."""
        return [
            {"who": who, "address": address, "program": program}
            for (who, address), program in list(self._seen.items())
        ]


def describe(pid: int) -> tuple[str, str]:
    """Return the machine or function to which a process belongs, and the name of its program."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
        program = Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "unknown", "unknown"
    environ = dict(entry.partition("=")[::2] for entry in entries if "=" in entry)
    return environ.get(MACHINE_MARK) or environ.get(FUNCTION_NAME) or "unknown", program
