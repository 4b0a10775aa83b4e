"""Bytes that lie in several places in memory, as one file: they need not be joined to be sent."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from rl_lifecycle.errors import ChangedPiecesError

#: Bytes somewhere in memory, in the order in which they make up an object.
Pieces = Sequence[memoryview]
#: What is copied at a time.
BLOCK = 1 << 20


class Reader(Protocol):
    """Something that gives its bytes one after another."""

    def read(self, size: int, /) -> bytes:
        """Give at most so many bytes; none at the end."""
        ...


class PiecesReader(io.RawIOBase):
    """Pieces of memory as one file that can be read and sought in, as an HTTP client wants a
    body.
    """

    def __init__(self, pieces: Pieces) -> None:
        super().__init__()
        self._pieces = [piece.cast("B") for piece in pieces if piece.nbytes]
        self._size, self._at = sum(len(piece) for piece in self._pieces), 0

    def __len__(self) -> int:
        return self._size

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where it is."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere else."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Copy the next bytes of one piece."""
        target, start = memoryview(buffer).cast("B"), 0
        for piece in self._pieces:
            if self._at < start + len(piece):
                found = piece[self._at - start : self._at - start + len(target)]
                target[: len(found)] = found
                self._at += len(found)
                return len(found)
            start += len(piece)
        return 0


def digest_of(pieces: Pieces) -> str:
    """SHA-256 of the bytes that the pieces hold now."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def copied(pieces: Pieces, sha256: str, uri: str) -> Iterator[bytes]:
    """Give the bytes block by block, each copied before it is hashed: what is judged in the end is
    what was given.

    :raises ChangedPiecesError: after the last block, if they were not the bytes of that digest.
    """
    digest = hashlib.sha256()
    for piece in (piece.cast("B") for piece in pieces if piece.nbytes):
        for start in range(0, len(piece), BLOCK):
            block = bytes(piece[start : start + BLOCK])
            digest.update(block)
            yield block
    if digest.hexdigest() != sha256:
        raise ChangedPiecesError(uri)
