"""The bucket as the console reads it: it never writes, and it reads nothing twice without need.

A key that never changes is read once. Another key is read again if a listing shows another ETag.
"""

import threading
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, NoReturn, TypeVar

from rl_lifecycle.errors import StoreRefusedError, StoreUnavailableError
from rl_lifecycle.storage.layout import (
    EVALUATIONS,
    GANGS,
    REGISTRY,
    SPECS,
    VERDICTS,
    champion_key,
)
from rl_lifecycle.storage.object_store import ObjectInfo, ObjectStore, StoredObject, read_from

T = TypeVar("T")
Item = TypeVar("Item")

#: What is kept of the bucket, bytes. The least recently used goes first.
MOST_BYTES = 64 * 2**20
#: A value of more than this share of the space is not kept, because it would drop too many others.
LARGEST_SHARE = 8
#: The requests at the same time.
THREADS = 16
#: How long no request is made after one that got no answer, seconds.
AWAY_S = 10.0
#: The classes whose keys are written once. The pointer in the registry is the exception.
WRITTEN_ONCE = (EVALUATIONS, GANGS, SPECS, VERDICTS, REGISTRY)


def is_immutable(key: str) -> bool:
    """Tell whether the layout promises that a key never changes once it exists."""
    if not key.startswith(WRITTEN_ONCE):
        return False
    return not (key.startswith(REGISTRY) and key == champion_key(key.split("/")[1]))


class KeptValue(NamedTuple):
    """A value with the ETag of what it was made from, and its size in bytes."""

    etag: str
    value: Any
    n_bytes: int


class KeptValues:
    """Values by name, up to a number of bytes. Threads may share them.

    :param most_bytes: if they are more, the least recently used ones are dropped.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes, self.n_bytes = most_bytes, 0
        self._values: OrderedDict[str, KeptValue] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, name: str, etag: str | None = None) -> Any:
        """Find a value.

        :param etag: the ETag that the value must have. None: any.
        :return: None if there is no such value.
        """
        with self._lock:
            found = self._values.get(name)
            if found is None or (etag is not None and found.etag != etag):
                return None
            self._values.move_to_end(name)
            return found.value

    def put(self, name: str, etag: str, value: Any, n_bytes: int) -> None:
        """Keep a value, and drop others if there is no space."""
        if n_bytes * LARGEST_SHARE > self.most_bytes:
            return
        with self._lock:
            if (before := self._values.pop(name, None)) is not None:
                self.n_bytes -= before.n_bytes
            self._values[name] = KeptValue(etag, value, n_bytes)
            self.n_bytes += n_bytes
            while self.n_bytes > self.most_bytes:
                _, dropped = self._values.popitem(last=False)
                self.n_bytes -= dropped.n_bytes


class ReadingPool:
    """Threads that read at the same time, for all environments.

    Work in the pool that asks the pool again is done in its own thread, one item after another.
    Otherwise every thread could wait for another one, and none would ever be free.
    """

    def __init__(self, threads: int = THREADS) -> None:
        self._inside = threading.local()
        self._pool = ThreadPoolExecutor(threads, "console-read", initializer=self._enter)

    def _enter(self) -> None:
        self._inside.yes = True

    def map(self, work: Callable[[Item], T], items: Iterable[Item]) -> list[T]:
        """Do the work for each item. :return: the results in the order of the items."""
        if getattr(self._inside, "yes", False):
            return [work(item) for item in items]
        return list(self._pool.map(work, items))


class CachedStore:
    """An object store that only reads, and keeps what it has read.

    After a request without an answer, it raises the same error for some seconds without asking, so
    that a page with hundreds of parts does not wait for each of them.

    :param store: the bucket.
    :param clock: monotonic seconds.
    """

    def __init__(
        self,
        store: ObjectStore,
        kept: KeptValues | None = None,
        pool: ReadingPool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._clock = store, clock
        self._kept, self._pool = kept or KeptValues(), pool or ReadingPool()
        self._away: tuple[float, StoreUnavailableError] | None = None

    @property
    def uri(self) -> str:
        """The address of the store."""
        return self._store.uri

    def find(self, key: str) -> StoredObject | None:
        """Read a key. One that never changes is read only once."""
        kept = self._kept.find(self._name(key)) if is_immutable(key) else None
        return kept if kept is not None else self._read(key)

    def find_listed(self, item: ObjectInfo) -> StoredObject | None:
        """Read a key that a listing shows, unless it is kept with the same ETag."""
        kept: StoredObject | None = self._kept.find(self._name(item.key), _bare(item.etag))
        return kept if kept is not None else self._read(item.key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List the keys that begin with a prefix. Listings are not kept."""
        return iter(self._ask(lambda: [*self._store.list(prefix)]))

    def read_from(self, key: str, offset: int) -> bytes:
        """Read a key's bytes from an offset on. They are not kept."""
        return self._ask(lambda: read_from(self._store, key, offset))

    def derive(
        self,
        name: str,
        etag: str,
        n_bytes: int,
        make: Callable[[], T],
        is_whole: Callable[[T], bool] = lambda _: True,
    ) -> T:
        """Make a value from stored objects, unless it is kept.

        :param etag: changes if one of the objects changes.
        :param n_bytes: about the size of the value.
        :param is_whole: whether a value may be kept.
        """
        named = f"{self._name(name)} derived"
        kept: tuple[T] | None = self._kept.find(named, etag)
        if kept is None:
            kept = (make(),)
            if is_whole(kept[0]):
                self._kept.put(named, etag, kept, n_bytes)
        return kept[0]

    def together(self, work: Callable[[Item], T], items: Iterable[Item]) -> Sequence[T]:
        """Do the work for each item at the same time. :return: the results in the items' order."""
        return self._pool.map(work, items)

    def put(
        self, key: str, data: bytes, *, if_match: str | None = None, if_none_match: bool = False
    ) -> NoReturn:
        """Refuse to write."""
        del data, if_match, if_none_match
        raise StoreRefusedError(f"{self.uri}/{key}", "the console only reads")

    def delete(self, key: str) -> NoReturn:
        """Refuse to delete."""
        raise StoreRefusedError(f"{self.uri}/{key}", "the console only reads")

    def _name(self, key: str) -> str:
        return f"{self.uri}/{key}"

    def _read(self, key: str) -> StoredObject | None:
        found = self._ask(lambda: self._store.find(key))
        if found is not None:
            self._kept.put(self._name(key), _bare(found.etag), found, len(found.data))
        return found

    def _ask(self, ask: Callable[[], T]) -> T:
        if self._away is not None and self._clock() < self._away[0]:
            raise self._away[1]
        try:
            return ask()
        except StoreRefusedError:
            raise
        except StoreUnavailableError as error:
            self._away = (self._clock() + AWAY_S, error)
            raise


def _bare(etag: str) -> str:
    return etag.strip('"')


class Snapshot:
    """Some prefixes of a store, listed once, in the form of an object store.

    The readers of `rl_lifecycle` list and read key by key. Here the listings are made at once, and
    a key that is kept with the listed ETag costs no request. Other keys are read as usual.

    :param prefixes: are listed at the same time, when the snapshot is made.
    """

    def __init__(self, store: CachedStore, prefixes: Sequence[str]) -> None:
        self.store, self.prefixes = store, tuple(prefixes)
        listed = store.together(lambda prefix: list(store.list(prefix)), self.prefixes)
        self._items = {item.key: item for items in listed for item in items}
        self._keys = sorted(self._items)

    @property
    def uri(self) -> str:
        """The address of the store."""
        return self.store.uri

    def find(self, key: str) -> StoredObject | None:
        """Read a key, as the listing shows it."""
        if (item := self._items.get(key)) is not None:
            return self.store.find_listed(item)
        return None if key.startswith(self.prefixes) else self.store.find(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List the keys that begin with a prefix."""
        if not prefix.startswith(self.prefixes):
            yield from self.store.list(prefix)
            return
        for key in self._keys[bisect_left(self._keys, prefix) :]:
            if not key.startswith(prefix):
                return
            yield self._items[key]

    def read_from(self, key: str, offset: int) -> bytes:
        """Read a key's bytes from an offset on."""
        return self.store.read_from(key, offset)

    def read_ahead(self, items: Iterable[ObjectInfo]) -> None:
        """Read keys at the same time, so that they are kept when a reader asks for them."""
        self.store.together(self.store.find_listed, items)

    def together(self, work: Callable[[Item], T], items: Iterable[Item]) -> Sequence[T]:
        """Do the work for each item at the same time."""
        return self.store.together(work, items)

    def put(
        self, key: str, data: bytes, *, if_match: str | None = None, if_none_match: bool = False
    ) -> NoReturn:
        """Refuse to write."""
        self.store.put(key, data, if_match=if_match, if_none_match=if_none_match)

    def delete(self, key: str) -> NoReturn:
        """Refuse to delete."""
        self.store.delete(key)
