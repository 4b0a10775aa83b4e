"""What every object store promises, and how to read and write through any of them.

The promises of a store:

- A key is written whole or not at all.
- When several writers race, `if_none_match` and `if_match` let exactly one of them win.
- A writer whose answer was lost reads the key back and recognises its own bytes. So bytes that are
  written under a condition must be unique to their writer, for example by a nonce. This is not
  needed if it does no harm to write the same bytes twice.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from rl_lifecycle.errors import (
    CorruptArtifactError,
    MissingObjectError,
    PreconditionFailedError,
)


@dataclass(frozen=True)
class StoredObject:
    """The bytes of a key, and the ETag that a conditional write passes as `if_match`."""

    data: bytes
    etag: str


@dataclass(frozen=True)
class ObjectInfo:
    """One line of a listing. `key` is relative to the store."""

    key: str
    n_bytes: int
    etag: str
    modified_at: datetime


class ObjectStore(Protocol):
    """The operations that every store offers."""

    @property
    def uri(self) -> str:
        """The address of the store, without a final slash."""
        ...

    def find(self, key: str) -> StoredObject | None:
        """Read a key.

        :return: None if the key does not exist.
        :raises StoreUnavailableError: if the store did not answer.
        """
        ...

    def put(
        self, key: str, data: bytes, *, if_match: str | None = None, if_none_match: bool = False
    ) -> str:
        """Write a key, whole or not at all.

        :param if_match: write only while the key still has this ETag.
        :param if_none_match: write only while the key does not exist.
        :return: the new ETag.
        :raises PreconditionFailedError: if the condition does not hold and the key holds other
            bytes than `data`.
        :raises StoreUnavailableError: if the store did not answer.
        """
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List the keys that begin with a prefix, sorted."""
        ...

    def delete(self, key: str) -> None:
        """Delete a key. A key that does not exist is no error."""
        ...


@runtime_checkable
class PartialReadStore(Protocol):
    """A store that transfers only the part of a key that you ask for."""

    def read_from(self, key: str, offset: int) -> bytes:
        """Read a key's bytes from an offset on, as :func:`read_from` describes."""
        ...


def get(store: ObjectStore, key: str, sha256: str | None = None) -> StoredObject:
    """Read a key that must exist.

    :param sha256: the digest that was recorded for the bytes. If it is None, it is not checked.
    :raises MissingObjectError: if the key does not exist.
    :raises CorruptArtifactError: if the bytes have another digest.
    """
    found = store.find(key)
    if found is None:
        raise MissingObjectError(f"{store.uri}/{key}")
    if sha256 is not None and (actual := hashlib.sha256(found.data).hexdigest()) != sha256:
        raise CorruptArtifactError(f"{store.uri}/{key}", sha256, actual)
    return found


def read_from(store: ObjectStore, key: str, offset: int) -> bytes:
    """Read a key's bytes from an offset on.

    A bucket transfers only these bytes.

    :return: empty if the key does not exist or has no bytes after the offset.
    """
    if isinstance(store, PartialReadStore):
        return store.read_from(key, offset)
    found = store.find(key)
    return found.data[offset:] if found is not None else b""


def put_once(store: ObjectStore, key: str, data: bytes) -> bool:
    """Write a key unless it exists.

    :return: True if the key holds these bytes now, and False if it holds other bytes.
    """
    try:
        store.put(key, data, if_none_match=True)
    except PreconditionFailedError:
        return False
    return True
