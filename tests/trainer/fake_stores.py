"""Stores that fail on purpose."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rl_lifecycle.errors import StoreUnavailableError
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.object_store import ObjectInfo, ObjectStore, StoredObject
from rl_lifecycle.storage.pieces import Reader


class FakeFlakyStore:
    """Fails its first operations, then works.

    :param error: the cause of each failure
    """

    def __init__(self, root: Path, failures: int, error: Exception | None = None) -> None:
        self.behind, self.failures, self.error, self.calls = (
            DirectoryStore(root),
            failures,
            error,
            0,
        )

    @property
    def uri(self) -> str:
        """The directory's URI."""
        return self.behind.uri

    def find(self, key: str) -> StoredObject | None:
        """Read, or fail."""
        self._fail(key)
        return self.behind.find(key)

    def put(
        self, key: str, data: bytes, *, if_match: str | None = None, if_none_match: bool = False
    ) -> str:
        """Write, or fail."""
        self._fail(key)
        return self.behind.put(key, data, if_match=if_match, if_none_match=if_none_match)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List, or fail."""
        self._fail(prefix)
        return self.behind.list(prefix)

    def delete(self, key: str) -> None:
        """Delete, or fail."""
        self._fail(key)
        self.behind.delete(key)

    def _fail(self, key: str) -> None:
        self.calls += 1
        if self.calls <= self.failures:
            raise StoreUnavailableError(f"{self.uri}/{key}", "no answer") from self.error


class FakeMeddlingStore(DirectoryStore):
    """Runs a function just before a key is written, as another machine might."""

    def __init__(
        self, root: Path, key_ends_with: str, meddle: Callable[[ObjectStore], None]
    ) -> None:
        super().__init__(root)
        self._end, self._meddle = key_ends_with, meddle

    def put(
        self, key: str, data: bytes, *, if_match: str | None = None, if_none_match: bool = False
    ) -> str:
        """Run the function once, then write."""
        if key.endswith(self._end) and self._end:
            self._end = ""
            self._meddle(DirectoryStore(self.root))
        return super().put(key, data, if_match=if_match, if_none_match=if_none_match)


class FakeBreakingStore(DirectoryStore):
    """Fails in the middle of the first object that is read in pieces."""

    broken = False

    def read_through(self, key: str, consume: Callable[[Reader], Any]) -> Any:
        """Give some bytes, then fail, once."""
        if self.broken:
            return super().read_through(key, consume)
        self.broken = True
        consume(FakeBody())
        raise AssertionError("the reader ignored the failure")


class FakeBody:
    """A body that ends in an error."""

    def __init__(self) -> None:
        self.sent = False

    def read(self, _size: int, /) -> bytes:
        """Give a few bytes, then fail."""
        if self.sent:
            raise StoreUnavailableError("s3://lake/chunk", "the connection was reset")
        self.sent = True
        return b"some"
