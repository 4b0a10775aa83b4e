"""The state folder: it holds everything that the local AWS writes, and says which server runs.

The server holds a lock for its whole life, and this lock decides whether a server is running. The
kernel releases the lock when the server ends, even in a crash. So a file that a crash left behind
does not count.
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

ROOT = Path(__file__).resolve().parent.parent
"""The root of the repository."""
STATE_VERSION = 1
"""The version of the folder's form. It changes when older folders can no longer be read."""
_STORED_MARK = "twin"
"""The key of the process mark in `server.json`. Folders of earlier versions use it, too."""


@dataclass(frozen=True)
class Running:
    """A server that owns a state folder.

    :param pid: the id of its process, which is also the id of its process group.
    :param process_mark: a random name of this start. Every process that the server starts has it in
        its environment.
    :param control_token: the token that control requests need.
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
    """The paths and the ownership of one local AWS."""

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
        """Find the folder: the given path, else below `NIGHTSHIFT_STATE`, else below the
        repository.
        """
        base = os.environ.get("NIGHTSHIFT_STATE")
        default = (Path(base) if base else ROOT / ".nightshift") / "local_aws"
        return cls(Path(given) if given else default)

    def prepare(self) -> None:
        """Create the folder so that only its owner can read it.

        :raises StateFolderError: if another version wrote the folder, or it cannot be written.
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
        """Write the version into a new folder; refuse a folder of another version."""
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
        """Let only one `up` or `down` at a time work on the folder."""
        with (self.path / "starting.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def own(self) -> IO[str] | None:
        """Take the server's lock for as long as the returned file is open.

        :return: None if a live server holds the lock.
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
        """Write the record of a server that is ready, atomically."""
        fresh = self.server_file.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(running.as_json()))
        fresh.replace(self.server_file)

    def find_running(self) -> Running | None:
        """Return the live and ready server of this folder, or None."""
        return self.last_known() if self.is_owned() else None

    def last_known(self) -> Running | None:
        """Return the record of the server that was ready last, whether it lives or not."""
        try:
            return Running.from_json(json.loads(self.server_file.read_text()))
        except (OSError, ValueError, TypeError, KeyError):
            return None
