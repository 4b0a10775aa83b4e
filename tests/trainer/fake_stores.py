"""Stores that misbehave on purpose."""

from collections.abc import Callable, Iterator
from pathlib import Path

from rl_lifecycle.errors import StoreUnavailableError
from rl_lifecycle.stores import DirectoryStore, ObjectInfo, ObjectStore, StoredObject


class FakeFlakyStore:
    """Fails its first operations, then works.

    :param error: what the store behind would have raised; it becomes the cause.
    """

    def __init__(self, root: Path, failures: int, error: Exception | None = None) -> None:
        self.behind, self.failures, self.error, self.calls = DirectoryStore(root), failures, error, 0

    @property
    def uri(self) -> str:
        """Where the store behind is."""
        return self.behind.uri

    def find(self, key: str) -> StoredObject | None:
        """Read, or fail."""
        self._fail(key)
        return self.behind.find(key)

    def put(self, key: str, data: bytes, *, if_match: str | None = None, if_none_match: bool = False) -> str:
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
    """Runs something just before a key is written, as another machine might."""

    def __init__(self, root: Path, key_ends_with: str, meddle: Callable[[ObjectStore], None]) -> None:
        super().__init__(root)
        self._end, self._meddle = key_ends_with, meddle

    def put(self, key: str, data: bytes, *, if_match: str | None = None, if_none_match: bool = False) -> str:
        """Meddle once, then write."""
        if key.endswith(self._end) and self._end:
            self._end = ""
            self._meddle(DirectoryStore(self.root))
        return super().put(key, data, if_match=if_match, if_none_match=if_none_match)
