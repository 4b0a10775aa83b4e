"""Selection takes the best policy on seeds that the gate never uses."""

import pytest

from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.evaluation.requests import EpisodeEnd, Shard
from rl_lifecycle.evaluation.selection import select
from rl_lifecycle.experiment.evaluation_settings import Evaluation

RULES = Evaluation(return_range=(0, 500), crash_below=100)


def _shard(*returns: float | None) -> Shard:
    return Shard(
        env_id="CartPole-v1",
        policy_sha256="0",
        first_seed=1,
        returns=returns,
        lengths=tuple(1 for _ in returns),
        ends=tuple(EpisodeEnd.TERMINATED for _ in returns),
        steps=len(returns),
        seconds=0.1,
    )


def test_the_best_mean_wins_and_the_rest_is_ranked() -> None:
    """Candidates are returned from best to worst."""
    best, ranking = select({("seed-0", 1): _shard(10, 20), ("seed-1", 1): _shard(400, 500)}, RULES)
    assert best.trial == "seed-1"
    assert [one.mean_return for one in ranking] == [450, 15]


def test_lost_episodes_count_as_the_floor_and_returns_are_clipped() -> None:
    """A policy that loses its bad episodes does not look better."""
    best, _ = select({("seed-0", 1): _shard(None, 500), ("seed-1", 1): _shard(300, 9000)}, RULES)
    assert (best.trial, best.mean_return, best.crash_rate) == ("seed-1", 400, 0.0)


def test_ties_go_to_fewer_crashes_then_to_the_later_step() -> None:
    """Ties go to fewer crashes, then to the later step, on every machine."""
    best, _ = select(
        {
            ("seed-0", 1): _shard(50, 450),
            ("seed-1", 1): _shard(250, 250),
            ("seed-1", 2): _shard(250, 250),
        },
        RULES,
    )
    assert (best.trial, best.step) == ("seed-1", 2)


def test_no_policy_is_no_candidate() -> None:
    """An empty list of candidates is an error."""
    with pytest.raises(InvalidRecordError, match="no candidate"):
        select({}, RULES)
