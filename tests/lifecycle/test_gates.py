"""The gate: its p-value, its looks, its decisions."""

import random

import pytest
from scipy.stats import binomtest

from rl_lifecycle.gates import Decision, Gate, decide, p_mean_at_most_zero

GATE = Gate(return_range=(0, 500), crash_below=100, max_pairs=2000)


@pytest.mark.parametrize(("k", "n", "rate"), [(30, 100, 0.25), (0, 40, 0.1), (40, 40, 0.9), (7, 500, 0.01), (990, 1000, 0.98)])
def test_on_zeros_and_ones_p_is_the_exact_binomial_test(k: int, n: int, rate: float) -> None:
    """A reader can check the p-value against scipy's."""
    p = p_mean_at_most_zero([1 - rate] * k + [-rate] * (n - k), rate)
    assert p == pytest.approx(binomtest(k, n, rate, "greater").pvalue, rel=1e-11)


def test_ties_neither_help_nor_hurt() -> None:
    """A pair without a difference moves no weight to either side."""
    assert p_mean_at_most_zero([1.0, -2.0, 3.0, 0.0, 0.0], 5.0) == p_mean_at_most_zero([1.0, -2.0, 3.0], 5.0)


def test_the_looks_spend_all_of_alpha_and_no_more() -> None:
    """The union bound over the looks is the promise."""
    assert [n for n, _ in GATE.schedule()] == [250, 500, 1000, 2000]
    assert [alpha for _, alpha in GATE.schedule()] == pytest.approx([0.005, 0.01, 0.015, 0.02])
    few = GATE.model_copy(update={"max_pairs": 3})
    assert sum(alpha for _, alpha in few.schedule()) == pytest.approx(0.05)


def test_looks_are_replayed_on_prefixes() -> None:
    """A decision at an early look stands, whatever comes after it."""
    early = decide([499.0] * 250, [1.0] * 250, GATE)
    late = decide([499.0] * 250 + [1.0] * 1750, [1.0] * 250 + [499.0] * 1750, GATE)
    assert early.decision is Decision.PROMOTE or early.looks
    assert late.looks[0] == early.looks[0]
    assert late.decision == early.decision


def test_lost_episodes_stop_the_gate() -> None:
    """More than one in a hundred lost is trouble with the infrastructure, not evidence."""
    rng = random.Random(0)
    candidate: list[float | None] = [rng.uniform(400, 500) for _ in range(250)]
    champion = [rng.uniform(0, 100) for _ in range(250)]
    candidate[:3] = [None] * 3
    assert decide(candidate, champion, GATE).decision is Decision.INCONCLUSIVE
