"""The gate's error rates on real returns stay below the promise.

benchmarks/judging/gate_characteristics.py runs more of the same simulations.
"""

import itertools
import random

import numpy as np
import pytest
from scipy import stats

from laptop.gate_study.return_pools import (
    RANGES,
    Array,
    Draw,
    agents_of,
    gate_for,
    load_pool,
    paired,
    unpaired,
    with_equal_means,
    with_rare_crashes,
)
from laptop.gate_study.simulation import judge_all, p_values, simulate
from rl_lifecycle.evaluation.bounds import p_mean_at_most_zero
from rl_lifecycle.evaluation.gate import decide
from rl_lifecycle.evaluation.verdicts import Decision, Gate

ALPHA = 0.05
#: Ordered pairs of agents of one environment: champion, then candidate.
PAIRS = [
    (env_id, *pair)
    for env_id in ("LunarLander-v3", "Acrobot-v1", "Pendulum-v1")
    for pair in itertools.permutations(agents_of(env_id), 2)
]


def test_the_simulation_computes_the_gates_own_p_value() -> None:
    """The simulation's p-value equals the gate's to the last digits."""
    rng = np.random.default_rng(0)
    gains = np.round(rng.normal(1, 20, (30, 120)))
    gains[0], gains[1], gains[2, :60] = -1.0, 1.0, 0.0
    expected = [p_mean_at_most_zero(list(row), 70.0) for row in gains]
    assert p_values(gains, 70.0) == pytest.approx(expected, abs=1e-12)


def test_the_simulation_decides_as_the_gate_does() -> None:
    """The simulation gives the decisions and pairs of `decide`, also with futility stops."""
    rng, seen = random.Random(1), set()
    for trial in range(40):
        gate = gate_for("LunarLander-v3", max_pairs=160, crash_margin=0.1)
        pool = load_pool("LunarLander-v3", "c0.det")
        shift = (-400.0, -25.0, 0.0, 40.0, 90.0)[trial % 5]
        champion = [float(rng.choice(pool)) for _ in range(160)]
        candidate = [float(rng.choice(pool)) + shift for _ in range(160)]
        verdict = decide(candidate, champion, gate)
        tally = judge_all(np.array([champion]), np.array([candidate]), gate)
        simulated = {(1, 0): Decision.PROMOTE, (0, 1): Decision.KEEP}.get(
            (tally.promoted, tally.kept), Decision.INCONCLUSIVE
        )
        assert (verdict.decision, verdict.looks[-1].n) == (simulated, tally.mean_pairs)
        seen.add(verdict.decision)
    assert seen == {Decision.PROMOTE, Decision.KEEP, Decision.INCONCLUSIVE}


@pytest.mark.parametrize(
    ("env_id", "champion", "candidate"), PAIRS, ids=lambda part: str(part).removesuffix(".det")
)
def test_no_real_pair_of_equal_means_is_promoted_too_often(
    env_id: str, champion: str, candidate: str
) -> None:
    """Two agents with equal means are promoted at most at the rate alpha.

    No crash threshold helps here, so the bound on the mean must hold alone.
    """
    gate = gate_for(env_id, crash_below=RANGES[env_id][0], max_pairs=400)
    before = load_pool(env_id, champion)
    after = with_equal_means(before, load_pool(env_id, candidate), gate.return_range)
    tally = simulate(paired(before, after), gate, repetitions=100)
    assert tally.promoted <= ALPHA


@pytest.mark.parametrize(
    ("env_id", "agent"),
    [(env_id, agent) for env_id in RANGES for agent in agents_of(env_id)],
    ids=lambda part: str(part).removesuffix(".det"),
)
def test_a_policy_is_not_better_than_itself(env_id: str, agent: str) -> None:
    """A policy is rarely promoted over itself on other seeds (an A/A test)."""
    pool = load_pool(env_id, agent)
    assert (
        simulate(unpaired(pool, pool), gate_for(env_id, max_pairs=400), repetitions=100).promoted
        <= ALPHA
    )


@pytest.mark.parametrize("rate", [0.002, 0.005, 0.01, 0.03])
def test_a_rare_crash_that_was_not_seen_yet_does_not_slip_through(rate: float) -> None:
    """Rare crashes at an equal mean are rarely promoted; usual tests fail here."""
    draw = with_rare_crashes(load_pool("LunarLander-v3", "c0.det"), rate, crash=-200.0)
    gate = gate_for("LunarLander-v3", crash_below=-200.0, max_pairs=1000)
    assert simulate(draw, gate, repetitions=200).promoted <= ALPHA


def test_calibrating_on_equal_policies_proves_nothing() -> None:
    """A paired t-test passes an A/A test and fails with rare crashes; the gate does not.

    So a test that was calibrated on equal policies may still promote a policy that sometimes
    crashes.
    """
    pool = load_pool("LunarLander-v3", "c0.det")
    equal, crashing = unpaired(pool, pool), with_rare_crashes(pool, 0.003, crash=-200.0)

    def t_promotes(draw: Draw) -> float:
        rng = np.random.default_rng(0)
        drawn = (draw(rng, 400) for _ in range(600))
        return float(
            np.mean(
                [
                    stats.ttest_rel(after, before, alternative="greater").pvalue <= ALPHA
                    for before, after in drawn
                ]
            )
        )

    assert t_promotes(equal) <= 0.07
    assert t_promotes(crashing) >= 0.25
    gate = gate_for("LunarLander-v3", crash_below=-200.0, looks=(400,))
    assert simulate(equal, gate, 200).promoted <= ALPHA
    assert simulate(crashing, gate, 200).promoted <= ALPHA


@pytest.mark.parametrize("crash_margin", [0.02, 0.05])
def test_a_candidate_at_the_edge_of_the_crash_guard_is_not_promoted_too_often(
    crash_margin: float,
) -> None:
    """A better candidate whose crash rate is higher by exactly the margin is rarely promoted."""
    pool = load_pool("LunarLander-v3", "c0.det")

    def draw(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
        before = rng.choice(pool, n)
        crashes = (before >= 100) & (rng.random(n) < crash_margin / np.mean(pool >= 100))
        return before, np.where(crashes, 50.0, np.where(before < 100, before, before + 60))

    tally = simulate(
        draw, gate_for("LunarLander-v3", crash_margin=crash_margin, max_pairs=1000), repetitions=200
    )
    assert tally.promoted <= ALPHA


def test_a_better_mean_does_not_excuse_more_crashes() -> None:
    """A2C has a higher mean than DQN by 12.8 but crashes in 24.9 % of episodes, not 14.4 %."""
    draw = paired(load_pool("LunarLander-v3", "dqn.det"), load_pool("LunarLander-v3", "a2c.det"))
    tally = simulate(draw, gate_for("LunarLander-v3"), repetitions=60)
    assert tally.promoted == 0
    assert tally.kept >= 0.6
    assert tally.kept + tally.stopped_early == 1


@pytest.mark.parametrize(
    ("env_id", "champion", "candidate", "shift", "power", "pairs"),
    [
        (
            "LunarLander-v3",
            "c0.det",
            "c1.det",
            0.0,
            0.97,
            900,
        ),
        ("LunarLander-v3", "c0.det", "c1.det", -2.83, 0.85, 1900),
        ("Acrobot-v1", "dqn.det", "ppo.det", 0.0, 0.97, 1200),
        ("Pendulum-v1", "ppo.det", "sac.det", 0.0, 0.97, 600),
    ],
    # The candidate's gain in standard deviations of the difference.
    ids=["LunarLander +.22 sd", "LunarLander +.11 sd", "Acrobot +.20 sd", "Pendulum +.55 sd"],
)
def test_a_better_candidate_is_found(
    env_id: str, champion: str, candidate: str, shift: float, power: float, pairs: int
) -> None:
    """The gate reaches the power of docs/gate.md within the published number of pairs."""
    draw = paired(load_pool(env_id, champion), load_pool(env_id, candidate) + shift)
    tally = simulate(draw, gate_for(env_id), repetitions=60)
    assert tally.promoted >= power
    assert tally.mean_pairs <= pairs


def test_ties_end_at_the_first_look() -> None:
    """Two perfect CartPole agents end at the first look."""
    verdict = decide([500.0] * 2000, [500.0] * 2000, gate_for("CartPole-v1"))
    assert verdict.decision is Decision.INCONCLUSIVE
    assert [look.n for look in verdict.looks] == [250]
    assert "all 250 pairs are ties" in verdict.reason


def test_futility_costs_no_power_that_matters() -> None:
    """Futility stops cost little power."""
    before, after = (
        load_pool("LunarLander-v3", "c0.det"),
        load_pool("LunarLander-v3", "c1.det") - 2.0,
    )
    rng = np.random.default_rng(3)
    drawn = [paired(before, after)(rng, 1000) for _ in range(60)]
    champion, candidate = (np.array([pair[side] for pair in drawn]) for side in (0, 1))
    patient = Gate(return_range=(-200, 320), crash_below=100, looks=(125, 250, 500, 1000))
    assert judge_all(champion, candidate, patient).stopped_early <= 0.1
