"""The statistics of pairs agree with scipy and with the gate."""

import random

import numpy as np
import pytest
from scipy import stats

from rl_lifecycle.evaluation.bounds import p_mean_at_most_zero
from rl_lifecycle.evaluation.gate import decide
from rl_lifecycle.evaluation.pair_statistics import (
    analytic_bca,
    describe_pairs,
    lower_bound,
    skewness,
)
from rl_lifecycle.evaluation.requests import EpisodeEnd, Shard
from rl_lifecycle.evaluation.verdicts import Gate


def skewed(n: int, seed: int = 0) -> list[float]:
    """Build differences with a long left tail."""
    rng = random.Random(seed)
    return [rng.gauss(5, 25) if rng.random() > 0.02 else -150.0 for _ in range(n)]


@pytest.mark.parametrize("n", [1, 2, 40, 400])
@pytest.mark.parametrize("alpha", [0.005, 0.05])
def test_the_lower_bound_is_where_the_gates_test_stops(n: int, alpha: float) -> None:
    """The gate promotes at a margin just below the bound and not just above it."""
    differences, width = skewed(n), 520.0
    bound = lower_bound(differences, width, alpha)

    def p(margin: float) -> float:
        return p_mean_at_most_zero([value - margin for value in differences], width + margin)

    assert p(bound) <= alpha or bound <= -width + 1
    assert p(bound + 0.001 * width) > alpha


def test_the_analytic_interval_is_near_the_resampled_one() -> None:
    """The analytic interval is close to BCa's and needs no random numbers."""
    differences = skewed(400)
    resampled = stats.bootstrap(
        (np.array(differences),),
        np.mean,
        confidence_level=0.9,
        method="BCa",
        n_resamples=3000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    low, high = analytic_bca(differences)
    width = resampled.high - resampled.low
    assert low == pytest.approx(resampled.low, abs=0.08 * width)
    assert high == pytest.approx(resampled.high, abs=0.08 * width)


def test_skewness_is_scipys() -> None:
    """Skewness equals scipy's biased estimate."""
    assert skewness(skewed(300)) == pytest.approx(float(stats.skew(skewed(300))))
    assert skewness([1.0, 1.0]) == 0.0


def shard(returns: list[float | None]) -> Shard:
    """Build an evaluation of invented returns."""
    return Shard(
        env_id="E-v0",
        policy_sha256="a",
        first_seed=70,
        returns=tuple(returns),
        lengths=tuple(1 for _ in returns),
        ends=tuple(EpisodeEnd.TERMINATED for _ in returns),
        steps=1,
        seconds=1.0,
    )


def test_pairs_are_described() -> None:
    """The summary has means, crashes with lost episodes, the tail, the worst seeds and clipping."""
    gate = Gate(return_range=(0, 100), crash_below=20, looks=(200,))
    candidate: list[float | None] = [60.0 + index % 7 for index in range(200)]
    candidate[3], candidate[4], candidate[5] = None, -50.0, 10.0
    champion: list[float | None] = [50.0] * 200
    verdict = decide(candidate, champion, gate)
    found = describe_pairs(shard(candidate), shard(champion), gate, verdict)
    assert found is not None
    assert (found.n, found.candidate.crashes, found.candidate.lost) == (200, 3, 1)
    assert found.champion is not None
    assert (found.champion.crashes, found.champion.mean) == (0, 50.0)
    assert found.candidate.lowest == -50.0
    assert [pair.seed for pair in found.worst[:3]] == [73, 74, 75]
    assert found.worst[0].candidate is None
    assert found.clipped_share == pytest.approx(1 / 400)
    assert found.mean_difference == pytest.approx(verdict.looks[0].mean_difference)
    assert found.ties == 0


def test_a_long_left_tail_is_warned_of() -> None:
    """A long left tail gives a warning, because usual tests promote too often there."""
    gate = Gate(return_range=(-200, 200), crash_below=-100, looks=(300,))
    candidate: list[float | None] = [
        -200.0 if index % 60 == 0 else 20.0 + index % 3 for index in range(300)
    ]
    champion: list[float | None] = [10.0] * 300
    found = describe_pairs(
        shard(candidate), shard(champion), gate, decide(candidate, champion, gate)
    )
    assert found is not None
    assert any("skewed to the left" in warning for warning in found.warnings)
