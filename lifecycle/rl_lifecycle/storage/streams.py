"""Reading and writing large objects without a second copy in memory."""

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
        """Write a key, whole or not at all.

        :raises ChangedPiecesError: if the bytes do not have the digest `sha256`.
        :raises StoreUnavailableError: if the store did not answer.
        """
        ...

    def read_through(self, key: str, consume: Callable[[Reader], T]) -> T:
        """Call `consume` with a reader of the key's bytes, and return the result.

        :param consume: is called again with the first byte if the store failed during the transfer.
        :raises MissingObjectError: if the key does not exist.
        :raises StoreUnavailableError: if the store did not answer.
        """
        ...


def put_pieces(store: ObjectStore, key: str, pieces: Pieces, sha256: str) -> None:
    """Write a key from pieces of memory, whole or not at all.

    :param sha256: the digest of the pieces when they were ready to be stored.
    :raises ChangedPiecesError: if the bytes that were sent have another digest.
    """
    if isinstance(store, StreamingStore):
        store.put_pieces(key, pieces, sha256)
    else:
        store.put(key, b"".join(copied(pieces, sha256, f"{store.uri}/{key}")))


def read_verified(store: ObjectStore, key: str, sha256: str, consume: Callable[[Reader], T]) -> T:
    """Call `consume` with a reader of the key's bytes, check their digest, and return the result.

    :param consume: reads the bytes. If it raises a ValueError and the digest is wrong, the error is
        reported as CorruptArtifactError.
    :raises MissingObjectError: if the key does not exist.
    :raises CorruptArtifactError: if the bytes have another digest.
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
    """Call `consume` with a reader of the key's bytes, and return the result.

    :raises MissingObjectError: if the key does not exist.
    """
    if isinstance(store, StreamingStore):
        return store.read_through(key, consume)
    return consume(io.BytesIO(get(store, key).data))


def _compare(uri: str, expected: str, actual: str, cause: Exception | None = None) -> None:
    if actual != expected:
        raise CorruptArtifactError(uri, expected, actual) from cause


class _HashingReader:
    """A reader that computes the digest of everything that another reader reads."""

    def __init__(self, reader: Reader) -> None:
        self._reader, self._hash = reader, hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes."""
        data = self._reader.read(size)
        self._hash.update(data)
        return data

    def finish(self) -> str:
        """Read the rest.

        :return: the digest of all bytes.
        """
        while self.read(BLOCK):
            pass
        return self._hash.hexdigest()
