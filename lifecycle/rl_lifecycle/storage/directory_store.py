"""An object store in a directory."""

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from rl_lifecycle.errors import (
    MissingObjectError,
    PreconditionFailedError,
    StoreUnavailableError,
)
from rl_lifecycle.storage.object_store import ObjectInfo, StoredObject
from rl_lifecycle.storage.pieces import Pieces, Reader, copied

T = TypeVar("T")


class DirectoryStore:
    """A directory that keeps the promises of a store, for a laptop and for tests.

    The ETag of a key is the SHA-256 of its bytes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    @property
    def uri(self) -> str:
        """The path of the directory."""
        return str(self.root)

    def find(self, key: str) -> StoredObject | None:
        """Read a key."""
        try:
            data = self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise StoreUnavailableError(
                f"{self.uri}/{key}", error.strerror or str(error)
            ) from error
        return StoredObject(data, hashlib.sha256(data).hexdigest())

    def put(
        self, key: str, data: bytes, *, if_match: str | None = None, if_none_match: bool = False
    ) -> str:
        """Write a key, whole or not at all.

        The bytes go into a temporary file, which is synchronised and then renamed. A conditional
        write holds a lock on the whole store meanwhile.
        """
        path = self._path(key)
        with self._answering(key):
            path.parent.mkdir(parents=True, exist_ok=True)
            with (
                self._locked()
                if if_match is not None or if_none_match
                else contextlib.nullcontext()
            ):
                self._check(key, data, if_match, if_none_match)
                self._replace(path, (data,))
        return hashlib.sha256(data).hexdigest()

    def put_pieces(self, key: str, pieces: Pieces, sha256: str) -> None:
        """Write a key from pieces of memory, whole or not at all.

        :raises ChangedPiecesError: if the bytes changed while they were written; the key then stays
            as it was.
        """
        path = self._path(key)
        with self._answering(key):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._replace(path, copied(pieces, sha256, f"{self.uri}/{key}"))

    def read_through(self, key: str, consume: Callable[[Reader], T]) -> T:
        """Open a key's file, call `consume` with it, and return the result."""
        path = self._path(key)
        if not path.is_file():
            raise MissingObjectError(f"{self.uri}/{key}")
        with self._answering(key), path.open("rb") as file:
            return consume(file)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List the keys that begin with a prefix, sorted."""
        start = self._path(prefix if prefix.endswith("/") else prefix.rpartition("/")[0] or ".")
        for path in sorted(start.rglob("*")) if start.is_dir() else ():
            key = path.relative_to(self.root).as_posix()
            if (
                path.is_file()
                and key.startswith(prefix)
                and not path.name.startswith(".tmp-")
                and path.name != ".lock"
            ):
                try:
                    data, stat = path.read_bytes(), path.stat()
                except FileNotFoundError:
                    continue  # deleted while we listed
                yield ObjectInfo(
                    key,
                    len(data),
                    hashlib.sha256(data).hexdigest(),
                    datetime.fromtimestamp(stat.st_mtime, UTC),
                )

    def delete(self, key: str) -> None:
        """Delete a key."""
        self._path(key).unlink(missing_ok=True)

    def _check(self, key: str, data: bytes, if_match: str | None, if_none_match: bool) -> None:
        found = self.find(key)
        if if_none_match and found is not None and found.data != data:
            raise PreconditionFailedError(f"{self.uri}/{key}", "If-None-Match")
        if if_match is not None and (
            found is None or (found.etag != if_match and found.data != data)
        ):
            raise PreconditionFailedError(f"{self.uri}/{key}", "If-Match")

    @contextlib.contextmanager
    def _answering(self, key: str) -> Iterator[None]:
        """Report an error of the file system as a store that does not answer."""
        try:
            yield
        except OSError as error:
            raise StoreUnavailableError(
                f"{self.uri}/{key}", error.strerror or str(error)
            ) from error

    def _replace(self, path: Path, pieces: Iterable[bytes]) -> None:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.root / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _path(self, key: str) -> Path:
        path = (self.root / key).resolve()
        if not path.is_relative_to(self.root):
            raise StoreUnavailableError(f"{self.uri}/{key}", "the key points outside the store")
        return path
