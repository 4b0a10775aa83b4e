"""The bucket as the console reads it: each key once, within its space, and never written."""

import threading
from pathlib import Path

import pytest

from rl_airflow.console.cached_store import (
    AWAY_S,
    CachedStore,
    KeptValues,
    ReadingPool,
    Snapshot,
    is_immutable,
)
from rl_lifecycle.errors import StoreRefusedError, StoreUnavailableError
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.layout import (
    TrialId,
    attempt_key,
    champion_key,
    curve_key,
    heartbeat_key,
    history_key,
    ledger_key,
    report_key,
    report_page_key,
    shard_key,
    spec_key,
    trainer_log_key,
    version_prefix,
)
from tests.plugins.console.stored_console import CountingStore

TRIAL = TrialId("cartpole", "r1", "seed-0")


@pytest.fixture
def counting(tmp_path: Path) -> CountingStore:
    """A folder whose requests are counted."""
    return CountingStore(DirectoryStore(tmp_path / "bucket"))


def test_the_layouts_promises_decide_what_is_read_once() -> None:
    """A key that is written once never changes. The pointer and what machines report do."""
    fixed = [
        spec_key("cartpole", "r1"),
        shard_key("cartpole", "r1", "gate-champion", 0),
        report_key("cartpole", "r1", "gate-candidate"),
        report_page_key("cartpole", "r1", "gate-candidate"),
        history_key("cartpole", 1),
        f"{version_prefix('cartpole', 1)}a-file",
    ]
    moving = [
        champion_key("cartpole"),
        heartbeat_key(TRIAL),
        attempt_key(TRIAL, 1),
        ledger_key("2026-11", "cartpole", "r1"),
        trainer_log_key(TRIAL, 1),
        curve_key(TRIAL, 1),
    ]
    assert [is_immutable(key) for key in fixed] == [True] * len(fixed)
    assert [is_immutable(key) for key in moving] == [False] * len(moving)


def test_a_key_that_never_changes_is_read_once(counting: CountingStore) -> None:
    """A key that does not exist yet is asked for again."""
    store, key = CachedStore(counting), spec_key("cartpole", "r1")
    assert store.find(key) is None
    counting.put(key, b"spec")
    assert [store.find(key).data for _ in range(3)] == [b"spec"] * 3  # type: ignore[union-attr]
    assert counting.found == [key, key]


def test_a_changed_etag_is_read_again_and_the_same_is_not(counting: CountingStore) -> None:
    """A key that should not change is no exception: a person may have restored it."""
    store = CachedStore(counting)
    for key in (heartbeat_key(TRIAL), history_key("cartpole", 1)):
        read = []
        for data in (b"one", b"one", b"two"):
            counting.put(key, data)
            (item,) = store.list(key)
            read.append(store.find_listed(item).data)  # type: ignore[union-attr]
        assert read == [b"one", b"one", b"two"]
        assert counting.found.count(key) == 2


def test_the_least_recently_used_values_make_space() -> None:
    """The space is counted in bytes, and one large value never drops all others."""
    kept = KeptValues(most_bytes=80)
    for name in "abcdefgh":
        kept.put(name, "1", name, 10)
    assert kept.find("a") == "a"
    kept.put("i", "1", "i", 10)
    assert (kept.find("a"), kept.find("b"), kept.find("i")) == ("a", None, "i")
    kept.put("huge", "1", "huge", 70)
    assert (kept.find("huge"), kept.find("a"), kept.n_bytes) == (None, "a", 80)
    kept.put("a", "2", "new", 5)
    assert (kept.find("a", "1"), kept.find("a", "2"), kept.n_bytes) == (None, "new", 75)


def test_work_in_the_pool_may_ask_the_pool_again() -> None:
    """With as much nested work as threads, waiting for the pool would never end."""
    pool = ReadingPool(threads=2)
    done: list[list[list[int]]] = []
    asking = threading.Thread(
        target=lambda: done.append(pool.map(lambda n: pool.map(lambda m: n * m, (1, 2)), range(8))),
        daemon=True,
    )
    asking.start()
    asking.join(timeout=30)
    assert done == [[[n, 2 * n] for n in range(8)]]


def test_nothing_is_written(counting: CountingStore) -> None:
    """The viewer's role could not, either."""
    store = CachedStore(counting)
    for refuse in (
        lambda: store.put("key", b""),
        lambda: store.delete("key"),
        lambda: Snapshot(store, []).put("key", b""),
        lambda: Snapshot(store, []).delete("key"),
    ):
        with pytest.raises(StoreRefusedError, match="only reads"):
            refuse()


def test_a_bucket_that_is_away_is_asked_again_after_some_seconds(counting: CountingStore) -> None:
    """A page of hundreds of parts does not wait for each of them."""
    now = [0.0]
    store = CachedStore(counting, clock=lambda: now[0])
    counting.away = True
    for _ in range(5):
        with pytest.raises(StoreUnavailableError):
            store.find(champion_key("cartpole"))
    assert len(counting.found) == 1
    now[0], counting.away = AWAY_S, False
    assert store.find(champion_key("cartpole")) is None


def test_a_snapshot_lists_once_and_answers_as_the_store(counting: CountingStore) -> None:
    """Keys beside its prefixes are read as usual."""
    for run in ("r1", "r2"):
        for step in (1, 2):
            counting.put(curve_key(TrialId("cartpole", run, "seed-0"), step), b"x")
    prefix = curve_key(TRIAL, 1).partition("seed-0")[0]
    view = Snapshot(CachedStore(counting), [prefix])
    for part in (prefix, f"{prefix}seed-0/", f"{prefix}absent/", prefix.replace("r1", "r2")):
        listed = [item.key for item in view.list(part)]
        assert listed == [item.key for item in counting.store.list(part)]
    assert counting.listed == [prefix, prefix.replace("r1", "r2")]
    assert view.find(curve_key(TRIAL, 9)) is None
    assert counting.found == []
