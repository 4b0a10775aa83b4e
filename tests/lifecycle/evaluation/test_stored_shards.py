"""Shards come from a function that runs an experiment's own code, so they are checked when read."""

import json
from pathlib import Path
from typing import Any

import pytest

from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.evaluation import stored_shards
from rl_lifecycle.evaluation.requests import merge_shards
from rl_lifecycle.evaluation.stored_shards import find_shard
from rl_lifecycle.storage.directory_store import DirectoryStore
from tests.lifecycle.evaluation.test_evaluations import shard

KEY = "evaluations/e/r/gate-candidate/shards/0000.json"


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    """An empty store."""
    (tmp_path / "bucket").mkdir()
    return DirectoryStore(tmp_path / "bucket")


def test_a_shard_that_was_played_is_read(store: DirectoryStore) -> None:
    """A lost episode is part of a possible shard."""
    store.put(KEY, shard([1.0, None]).to_json())
    assert find_shard(store, KEY) == shard([1.0, None])
    assert find_shard(store, KEY.replace("0000", "0001")) is None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"lengths": [2]}, "lists of different length"),
        ({"returns": [None, 1.0]}, "seed 100: an episode has no return if it was lost"),
        ({"lengths": [-2, 2]}, "an episode has a negative length"),
        ({"seconds": -1.0}, "cannot be negative"),
        ({"returns": [1e999, 1.0]}, "finite number"),
        ({"returns": [-1e200, 1.0]}, r"a return beyond 1e\+100"),
        ({"steps": 10**400}, "are impossible"),
        ({"lengths": [2, 2**60]}, "are impossible"),
        ({"seconds": 5e-324}, "are impossible"),
        ({"problems": ["x" * 3_000]}, "at most 20 problems"),
        ({"problems": ["x"] * 21}, "at most 20 problems"),
        ({"gpu": 1}, "gpu: Extra inputs are not permitted"),
    ],
)
def test_an_impossible_shard_is_refused_by_name(
    store: DirectoryStore, changes: dict[str, Any], problem: str
) -> None:
    """The message names the shard and what is wrong with it."""
    document = {**json.loads(shard([1.0, 2.0]).to_json()), **changes}
    store.put(KEY, json.dumps(document).encode())
    with pytest.raises(InvalidRecordError, match=problem) as caught:
        find_shard(store, KEY)
    assert KEY in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"[" * 100_000, b"\x80\x04."])
def test_what_is_no_json_is_refused(store: DirectoryStore, data: bytes) -> None:
    """Foreign bytes end in one line, not in a traceback."""
    store.put(KEY, data)
    with pytest.raises(InvalidRecordError):
        find_shard(store, KEY)


def test_a_huge_shard_is_not_read(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder of an address can send any number of bytes, and no reader loads them."""
    store.put(KEY, shard([1.0] * 100).to_json())
    monkeypatch.setattr(stored_shards, "MOST_SHARD_BYTES", 200)
    with pytest.raises(InvalidRecordError, match=r"bytes, and a shard at most 200"):
        find_shard(store, KEY)


def test_shards_of_different_evaluators_are_not_joined() -> None:
    """A library of another version may give other returns. Older shards name fewer parts."""
    old, new = ({"numpy": "2.1", "evaluator": f"code {n}"} for n in (1, 2))
    first, second = shard([1.0]), shard([2.0], 101)
    with pytest.raises(InvalidRecordError, match="different versions of the evaluator: evaluator"):
        merge_shards([first.with_versions(old), second.with_versions(new)])
    before = first.with_versions({"numpy": "2.1"})
    assert merge_shards([before, second.with_versions(new)]).returns == (1.0, 2.0)
