"""The gate's error rates for first champions, scenarios, negative margins and stochastic policies.

Each null is exactly at the edge of what must not be promoted, on returns of real agents. Where the
simulation has no such case, the test calls the rule itself.
"""

import numpy as np
import pytest

from laptop.gate_study.return_pools import Array, Draw, gate_for, load_pool, paired
from laptop.gate_study.simulation import simulate
from rl_lifecycle.evaluation.gate import decide, decide_first
from rl_lifecycle.evaluation.verdicts import Decision

ALPHA = 0.05
ENV = "LunarLander-v3"
LOOKS = (60, 125, 250)
#: Repetitions of tests that call the rule itself, which is slower than the simulation.
REPETITIONS = 100


def promoted(decisions: list[Decision]) -> float:
    """Return the share of promotions."""
    return sum(decision is Decision.PROMOTE for decision in decisions) / len(decisions)


# ---- first champions
def first_champions(pool: Array, bar: float, **changes: float | None) -> list[Decision]:
    """Judge many first candidates that draw their episodes from a pool."""
    rng, gate = np.random.default_rng(11), gate_for(ENV, looks=LOOKS, **changes)
    return [
        decide_first([float(one) for one in rng.choice(pool, LOOKS[-1])], bar, gate).decision
        for _ in range(REPETITIONS)
    ]


@pytest.mark.parametrize("agent", ["a2c.det", "c0.det", "dqn.det", "ppo.det"])
def test_a_first_champion_whose_mean_is_the_bar_is_rarely_promoted(agent: str) -> None:
    """The mean does not exceed the bar, so a promotion is an error."""
    pool = np.clip(load_pool(ENV, agent), -200, 320)
    decisions = first_champions(pool, float(pool.mean()), max_crash_rate=None)
    assert promoted(decisions) <= ALPHA


def test_a_first_champion_that_crashes_at_the_ceiling_is_rarely_promoted() -> None:
    """Its mean is far above the bar, but it crashes as often as the ceiling allows at most."""
    pool = np.where(np.arange(1000) < 200, 0.0, 300.0)
    decisions = first_champions(pool, 100.0, max_crash_rate=0.2)
    assert promoted(decisions) <= ALPHA


def test_a_good_first_champion_is_found() -> None:
    """A candidate that is clearly above the bar is promoted, so the tests above can tell."""
    pool = load_pool(ENV, "c1.det")
    assert promoted(first_champions(pool, 150.0, max_crash_rate=0.3)) >= 0.95


# ---- negative margins
def shifted(champion: Array, by: float) -> Draw:
    """Draw pairs whose candidate is better by a constant. Nothing reaches the range's ends."""
    inside = np.clip(champion, -150, 250)
    return paired(inside, inside + by + np.tile([-20.0, 20.0], len(inside))[: len(inside)])


@pytest.mark.parametrize("margin", [-5.0, -20.0, 10.0])
def test_a_candidate_that_is_worse_by_exactly_the_margin_is_rarely_promoted(margin: float) -> None:
    """A negative margin allows a loss, and its edge is held as that of a positive margin is."""
    gate = gate_for(ENV, crash_below=-200.0, margin=margin, max_pairs=400)
    draw = shifted(load_pool(ENV, "c0.det"), margin)
    assert simulate(draw, gate, repetitions=200).promoted <= ALPHA


def test_a_negative_margin_promotes_what_is_as_good() -> None:
    """With the margin, an equally good candidate is promoted; without it, it is not."""
    draw = shifted(load_pool(ENV, "c0.det"), 0.0)
    allowed = gate_for(ENV, crash_below=-200.0, margin=-30.0, max_pairs=400)
    strict = gate_for(ENV, crash_below=-200.0, margin=0.0, max_pairs=400)
    assert simulate(draw, allowed, repetitions=60).promoted >= 0.9
    assert simulate(draw, strict, repetitions=60).promoted <= ALPHA


# ---- scenarios
def with_scenario(extra_crashes: float, crash_margin: float) -> list[Decision]:
    """Judge a much better candidate that crashes more often in one of two scenarios."""
    rng, pool = np.random.default_rng(5), load_pool(ENV, "c0.det")
    gate = gate_for(
        ENV,
        looks=(125, 250),
        crash_margin=crash_margin,
        max_crash_rate=None,
        scenarios={"wind": 100.0, "ice": 100.0},
    )
    decisions = []
    for _ in range(REPETITIONS):
        before = rng.choice(pool, (3, 250))
        after = np.where(before < 100, before, before + 60)
        crashes = (before[1] >= 100) & (rng.random(250) < extra_crashes / np.mean(pool >= 100))
        after[1] = np.where(crashes, 50.0, after[1])
        ours, theirs = after.tolist(), before.tolist()
        verdict = decide(
            ours[0],
            theirs[0],
            gate,
            {"wind": (ours[1], theirs[1]), "ice": (ours[2], theirs[2])},
        )
        decisions.append(verdict.decision)
    return decisions


def test_a_scenario_with_more_crashes_than_the_margin_is_rarely_promoted() -> None:
    """The crash guard must hold in each scenario, at its very edge."""
    assert promoted(with_scenario(0.1, 0.1)) <= ALPHA


def test_a_candidate_that_holds_in_each_scenario_is_found() -> None:
    """The same candidate without the additional crashes is promoted."""
    assert promoted(with_scenario(0.0, 0.1)) >= 0.9


# ---- stochastic policies
def stochastic(pool: Array, gain: float = 0.0) -> Draw:
    """Draw pairs of two policies that sample their actions.

    The same seed gives both the same start, but not the same episode: three of ten episodes go
    another way, and every return varies.
    """

    def play(rng: np.random.Generator, returns: Array) -> Array:
        other = rng.random(len(returns)) < 0.3
        return np.where(other, rng.choice(pool, len(returns)), returns) + rng.normal(
            0, 15, len(returns)
        )

    def draw(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
        start = rng.choice(pool, n)
        return play(rng, start), play(rng, start) + gain

    return draw


@pytest.mark.parametrize("agent", ["c0.det", "dqn.det", "ppo.det"])
def test_a_stochastic_policy_is_not_better_than_itself(agent: str) -> None:
    """Noise of the actions on the same seeds is not taken for an improvement."""
    gate = gate_for(ENV, max_pairs=400)
    assert simulate(stochastic(load_pool(ENV, agent)), gate, repetitions=200).promoted <= ALPHA


def test_a_better_stochastic_policy_is_found() -> None:
    """The noise costs pairs, but a clear gain is found."""
    draw = stochastic(np.clip(load_pool(ENV, "ppo.det"), -200, 260), gain=40.0)
    gate = gate_for(ENV, max_pairs=1000, crash_margin=0.1)
    assert simulate(draw, gate, repetitions=60).promoted >= 0.9
