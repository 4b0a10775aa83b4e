"""Shards join to the same evaluation, however they are cut, ordered or delivered."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.evaluation.requests import EpisodeEnd, Shard, merge_shards, scenario_evaluation
from rl_lifecycle.records.names import is_slug

RETURNS = st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=40)


def shard(returns: list[float | None], first_seed: int = 100, sha256: str = "a") -> Shard:
    """Build a shard of invented episodes."""
    return Shard(
        env_id="E-v0",
        policy_sha256=sha256,
        first_seed=first_seed,
        returns=tuple(returns),
        lengths=tuple(None if value is None else 2 for value in returns),
        ends=tuple(
            EpisodeEnd.LOST if value is None else EpisodeEnd.TERMINATED for value in returns
        ),
        steps=sum(2 for value in returns if value is not None),
        seconds=0.0,
    )


@given(returns=RETURNS, data=st.data())
def test_any_pieces_in_any_order_join_to_the_whole(
    returns: list[float | None], data: st.DataObject
) -> None:
    """Shards may be cut anywhere, repeated, overlapping and in any order."""
    whole = shard(returns)
    n = len(returns)
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, n - 1)), max_size=5)) | {0, n})
    pieces = [shard(returns[a:b], 100 + a) for a, b in itertools.pairwise(cuts) if a < b]
    start = data.draw(st.integers(0, n - 1))
    pieces.append(shard(returns[start : data.draw(st.integers(start, n))], 100 + start))
    joined = merge_shards(data.draw(st.permutations(pieces)))
    assert (joined.first_seed, joined.returns, joined.lengths, joined.ends, joined.steps) == (
        whole.first_seed,
        whole.returns,
        whole.lengths,
        whole.ends,
        whole.steps,
    )


@given(returns=st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=20), data=st.data())
def test_a_gap_is_refused(returns: list[float], data: st.DataObject) -> None:
    """A missing episode is refused."""
    hole = data.draw(st.integers(1, len(returns) - 2))
    pieces = [shard([*returns[:hole]], 100), shard([*returns[hole + 1 :]], 100 + hole + 1)]
    with pytest.raises(InvalidRecordError, match=f"seed {100 + hole} is missing"):
        merge_shards(data.draw(st.permutations(pieces)))


def test_a_seed_with_two_returns_is_refused() -> None:
    """An overlap with two different returns shows an environment that does not repeat itself."""
    with pytest.raises(
        InvalidRecordError,
        match=r"seed 101 gave 2.0 and 3.0: the environment does not repeat itself",
    ):
        merge_shards([shard([1.0, 2.0]), shard([3.0, 4.0], 101)])


def test_shards_of_two_policies_are_refused() -> None:
    """Shards of two policies do not join."""
    with pytest.raises(InvalidRecordError, match="not of one policy"):
        merge_shards([shard([1.0]), shard([1.0], 101, sha256="b")])


def test_no_shard_is_no_evaluation() -> None:
    """An empty list of shards is an error."""
    with pytest.raises(InvalidRecordError, match="has no shard"):
        merge_shards([])


@pytest.mark.parametrize("scenario", ["windy", "Wind 15 m/s", "ü"])
def test_a_scenarios_evaluation_has_a_name_for_keys(scenario: str) -> None:
    """A scenario's name is free text, so its key has a safe form."""
    assert is_slug(scenario_evaluation("gate-candidate", scenario))
