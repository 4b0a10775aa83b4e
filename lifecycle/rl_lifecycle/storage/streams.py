"""Large objects, written from memory that is not joined and read piece by piece: nobody holds a
second copy of them.
"""

import hashlib
import io
from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

from rl_lifecycle.errors import CorruptArtifactError
from rl_lifecycle.storage.object_store import ObjectStore, get
from rl_lifecycle.storage.pieces import BLOCK, Pieces, Reader, copied

T = TypeVar("T")


@runtime_checkable
class StreamingStore(Protocol):
    """A store that sends and receives an object piece by piece."""

    def put_pieces(self, key: str, pieces: Pieces, sha256: str) -> None:
        """Write a key whole.

        :raises ChangedPiecesError: if the bytes are not those of the digest.
        :raises StoreUnavailableError: if the store did not answer.
        """
        ...

    def read_through(self, key: str, consume: Callable[[Reader], T]) -> T:
        """Let a key's bytes be read from the first on.

        :param consume: may be called again from the beginning, when the store failed in between.
        :raises MissingObjectError: if there is no such key.
        :raises StoreUnavailableError: if the store did not answer.
        """
        ...


def put_pieces(store: ObjectStore, key: str, pieces: Pieces, sha256: str) -> None:
    """Write a key whole, from pieces where the store can.

    :param sha256: what their digest was when they were to be stored.
    :raises ChangedPiecesError: if what was sent has another.
    """
    if isinstance(store, StreamingStore):
        store.put_pieces(key, pieces, sha256)
    else:
        store.put(key, b"".join(copied(pieces, sha256, f"{store.uri}/{key}")))


def read_verified(store: ObjectStore, key: str, sha256: str, consume: Callable[[Reader], T]) -> T:
    """Let a key be read, and compare what was read with its digest afterwards: until then it is not
    to be relied on.

    :param consume: reads; a ValueError of it is taken for what damage looks like, if the digest is
        another.
    :raises MissingObjectError: if there is no such key.
    :raises CorruptArtifactError: if its digest is another.
    """

    def checked(reader: Reader) -> T:
        hashing = _HashingReader(reader)
        try:
            result = consume(hashing)
        except ValueError as error:
            _compare(f"{store.uri}/{key}", sha256, hashing.finish(), error)
            raise
        _compare(f"{store.uri}/{key}", sha256, hashing.finish())
        return result

    return read_through(store, key, checked)


def read_through(store: ObjectStore, key: str, consume: Callable[[Reader], T]) -> T:
    """Let a key be read, piece by piece where the store can.
    :raises MissingObjectError: if there is no such key.
    """
    if isinstance(store, StreamingStore):
        return store.read_through(key, consume)
    return consume(io.BytesIO(get(store, key).data))


def _compare(uri: str, expected: str, actual: str, cause: Exception | None = None) -> None:
    if actual != expected:
        raise CorruptArtifactError(uri, expected, actual) from cause


class _HashingReader:
    """Gives what another reader gives, and knows its digest."""

    def __init__(self, reader: Reader) -> None:
        self._reader, self._hash = reader, hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        """Give at most so many bytes."""
        data = self._reader.read(size)
        self._hash.update(data)
        return data

    def finish(self) -> str:
        """Read what is left. :return: the digest of all."""
        while self.read(BLOCK):
            pass
        return self._hash.hexdigest()
