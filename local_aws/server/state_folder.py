"""The state folder: everything that the local AWS writes lives under it, and it says who is
running.

A lock that the server holds for its whole life is the truth about "running": the kernel releases it
however the server ends, so a file left by a crash never counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from local_aws.errors import StateFolderError

ROOT = Path(__file__).resolve().parents[2]
"""The root of the repository."""
STATE_VERSION = 1
"""Changes whenever a folder written before can no longer be read."""
_STORED_MARK = "twin"
"""The key under which `server.json` keeps the process mark; earlier versions read it, too."""


@dataclass(frozen=True)
class Running:
    """The server that owns a state folder.

    :param pid: its process, which is also its process group.
    :param process_mark: a random name of this start. Every process that the server starts carries
        the name in its environment.
    """

    pid: int
    port: int
    endpoint_url: str
    account_id: str
    region: str
    process_mark: str
    control_token: str

    def as_json(self) -> dict[str, Any]:
        """Return the form in which the state folder keeps a server."""
        stored = asdict(self)
        stored[_STORED_MARK] = stored.pop("process_mark")
        return stored

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Running:
        """Read what :meth:`as_json` returned."""
        return cls(process_mark=stored.pop(_STORED_MARK), **stored)


class StateFolder:
    """Paths and ownership of one local AWS."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.server_file = self.path / "server.json"
        self.log_file = self.path / "server.log"
        self.instance_types_file = self.path / "instance_types.json"
        self.emulator = self.path / "emulator"
        self.objects = self.path / "objects"
        self.machines = self.path / "machines"
        self.functions = self.path / "functions"
        self.scratch = self.path / "tmp"

    @classmethod
    def resolve(cls, given: str | None) -> StateFolder:
        """Find the folder: what was given, else below `NIGHTSHIFT_STATE`, else below the
        repository root.
        """
        base = os.environ.get("NIGHTSHIFT_STATE")
        default = (Path(base) if base else ROOT / ".nightshift") / "local_aws"
        return cls(Path(given) if given else default)

    def prepare(self) -> None:
        """Create the folder, readable by its owner only.

        :raises StateFolderError: if it was written by another version, or cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            for part in (self.emulator, self.objects, self.machines, self.functions, self.scratch):
                part.mkdir(exist_ok=True)
            self._check_version()
        except OSError as error:
            raise StateFolderError(
                f"cannot use the state folder {self.path}: {error.strerror or error}"
            ) from None

    def _check_version(self) -> None:
        """Write the version into a new folder; refuse another one's."""
        marker = self.path / "version"
        if not marker.exists():
            marker.write_text(f"{STATE_VERSION}\n")
        found = marker.read_text().strip()
        if found != str(STATE_VERSION):
            raise StateFolderError(
                f"{self.path} was written by version {found or '?'} of local_aws, this is version "
                f"{STATE_VERSION}: "
                "remove that folder, or name another with --state"
            )

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Serialise two `up` (or `up` and `down`) on one folder."""
        with (self.path / "starting.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def own(self) -> IO[str] | None:
        """Take the server's lock, for as long as the returned file is open; None if a live server
        holds it.
        """
        handle = (self.path / "server.lock").open("w")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            return None
        return handle

    def is_owned(self) -> bool:
        """Say whether a live server holds the lock."""
        if not (self.path / "server.lock").exists():
            return False
        mine = self.own()
        if mine is None:
            return True
        mine.close()
        return False

    def announce(self, running: Running) -> None:
        """Publish a ready server, atomically."""
        fresh = self.server_file.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(running.as_json()))
        fresh.replace(self.server_file)

    def find_running(self) -> Running | None:
        """Return the live, ready server of this folder, or None."""
        return self.last_known() if self.is_owned() else None

    def last_known(self) -> Running | None:
        """Return what the last ready server announced, alive or not."""
        try:
            return Running.from_json(json.loads(self.server_file.read_text()))
        except (OSError, ValueError, TypeError, KeyError):
            return None
