"""Bytes in several places of memory that are sent as one file, without joining them first."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from rl_lifecycle.errors import ChangedPiecesError

#: Parts of memory, in the order in which they form an object.
Pieces = Sequence[memoryview]
#: How many bytes are copied at a time.
BLOCK = 1 << 20


class Reader(Protocol):
    """An object whose bytes can be read one after another."""

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes; empty at the end."""
        ...


class PiecesReader(io.RawIOBase):
    """Pieces of memory as one file with `read` and `seek`, as HTTP clients need for a body."""

    def __init__(self, pieces: Pieces) -> None:
        super().__init__()
        self._pieces = [piece.cast("B") for piece in pieces if piece.nbytes]
        self._size, self._at = sum(len(piece) for piece in self._pieces), 0

    def __len__(self) -> int:
        return self._size

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """The position of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position of the next byte."""
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
    """Compute the SHA-256 of the bytes that the pieces hold now."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def copied(pieces: Pieces, sha256: str, uri: str) -> Iterator[bytes]:
    """Yield the bytes block by block.

    Each block is copied before it is hashed, so the digest is that of the bytes that were yielded.

    :raises ChangedPiecesError: after the last block, if the bytes do not have the digest `sha256`.
    """
    digest = hashlib.sha256()
    for piece in (piece.cast("B") for piece in pieces if piece.nbytes):
        for start in range(0, len(piece), BLOCK):
            block = bytes(piece[start : start + BLOCK])
            digest.update(block)
            yield block
    if digest.hexdigest() != sha256:
        raise ChangedPiecesError(uri)
