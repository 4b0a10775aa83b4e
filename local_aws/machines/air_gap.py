"""The air gap for programs that are not Python: their connections beyond this machine are found,
reported, and ended.

A program of a machine or a function cannot be kept from connecting without root. So the kernel's
tables are read a few times a second, and whoever is found connected to the outside is killed. What
comes and goes between two looks is missed.
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
"""Look-ups of names are reported only: a library asks for the host's own name, and on AWS a VPC answers without a way out."""


class AirGapWatch:
    """Looks for connections of a twin's processes to anywhere but this machine.

    :param process_mark: the mark that its processes carry.
    :param is_needed: whether there is any process to look for; a laptop's own connections are none
        of its business.
    """

    def __init__(self, process_mark: str, is_needed: Callable[[], bool]) -> None:
        self._process_mark = process_mark
        self._is_needed = is_needed
        self._stop = threading.Event()
        self._judged: set[int] = set()
        self._seen: dict[tuple[str, str], str] = {}
        self._thread = threading.Thread(target=self._run, daemon=True, name="watch")

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()

    def _run(self) -> None:
        """Look until closed; a process that ends while it is looked at is no error."""
        while not self._stop.wait(LOOK_EVERY_S):
            try:
                if self._is_needed():
                    self.look(outside_connections())
            except Exception:
                log.exception("looking for connections beyond this machine")

    def look(self, connections: list[Connection]) -> None:
        """Report the twin's among some connections, and end who holds them; others' are looked at
        once.
        """
        fresh = {c.inode: c for c in connections if c.inode and c.inode not in self._judged}
        self._judged = {c.inode for c in connections if c.inode}
        for pid in find_marked(MARK, self._process_mark) if fresh else ():
            held = [fresh[inode] for inode in socket_inodes(pid) & set(fresh)]
            if held:
                self._catch(pid, held)

    def _catch(self, pid: int, held: list[Connection]) -> None:
        """Report a process, and kill it unless it only looks up a name."""
        who, program = describe(pid)
        for connection in held:
            self._seen.setdefault((who, connection.address), program)
            log.warning(
                "%s (%s, process %d) is connected to %s", who, program, pid, connection.address
            )
        if any(not connection.address.endswith(LOOKUP_PORT) for connection in held):
            send([pid], signal.SIGKILL)

    def seen(self) -> list[dict[str, str]]:
        """Return who was found connected to where, each pair once."""
        return [
            {"who": who, "address": address, "program": program}
            for (who, address), program in list(self._seen.items())
        ]


def describe(pid: int) -> tuple[str, str]:
    """Return the machine or function that a process belongs to, and the program's name."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
        program = Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "unknown", "unknown"
    environ = dict(entry.partition("=")[::2] for entry in entries if "=" in entry)
    return environ.get(MACHINE_MARK) or environ.get(FUNCTION_NAME) or "unknown", program
