"""The gate's p-value, its looks, and each of its decisions."""

import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.evaluation.bounds import p_mean_at_most_zero
from rl_lifecycle.evaluation.gate import decide, decide_first, decide_shards, decide_unchanged
from rl_lifecycle.evaluation.requests import EpisodeEnd, Shard
from rl_lifecycle.evaluation.verdicts import Decision, Gate, Verdict, gate_of
from rl_lifecycle.experiment.evaluation_settings import Evaluation, GateSettings, Perturbation
from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.experiment.spec import Artifact, Champion

GATE = Gate(return_range=(0, 500), crash_below=100, max_pairs=800)
VALUES = st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=1, max_size=60)
RETURNS = st.lists(st.none() | st.floats(-100, 600), min_size=0, max_size=90)


def noisy(mean: float, n: int, seed: int = 0, spread: float = 40) -> list[float | None]:
    """Build invented returns with noise."""
    rng = random.Random(seed)
    return [rng.uniform(mean - spread, mean + spread) for _ in range(n)]


@pytest.mark.parametrize(
    ("k", "n", "rate"),
    [(30, 100, 0.25), (0, 40, 0.1), (40, 40, 0.9), (7, 500, 0.01), (990, 1000, 0.98)],
)
def test_on_zeros_and_ones_p_is_the_exact_binomial_test(k: int, n: int, rate: float) -> None:
    """On returns of 0 and 1 the p-value equals scipy's exact binomial test."""
    p = p_mean_at_most_zero([1 - rate] * k + [-rate] * (n - k), rate)
    assert p == pytest.approx(binomtest(k, n, rate, "greater").pvalue, rel=1e-11)


@given(values=VALUES, worst=st.floats(0.5, 3), data=st.data())
def test_p_grows_when_anything_gets_worse(
    values: list[float], worst: float, data: st.DataObject
) -> None:
    """A lower return or floor never lowers the p-value; the order of episodes has no effect."""
    p = p_mean_at_most_zero(values, worst)
    assert 0 <= p <= 1
    index = data.draw(st.integers(0, len(values) - 1))
    lower = [*values[:index], values[index] - data.draw(st.floats(0, 1)), *values[index + 1 :]]
    assert p_mean_at_most_zero(lower, worst) >= p - 1e-12
    assert p_mean_at_most_zero(values, worst + 1) >= p - 1e-12
    assert p_mean_at_most_zero(data.draw(st.permutations(values)), worst) == pytest.approx(
        p, abs=1e-12
    )


@given(values=VALUES, worst=st.floats(0.5, 3))
def test_the_two_sides_cannot_both_be_shown(values: list[float], worst: float) -> None:
    """The p-values of both directions add up to at least 1, so no data show both."""
    assert (
        p_mean_at_most_zero(values, worst)
        + p_mean_at_most_zero([-value for value in values], worst)
        >= 1 - 1e-12
    )


def test_ties_neither_help_nor_hurt() -> None:
    """A pair without a difference changes no p-value."""
    assert p_mean_at_most_zero([1.0, -2.0, 3.0, 0.0, 0.0], 5.0) == p_mean_at_most_zero(
        [1.0, -2.0, 3.0], 5.0
    )


def test_the_looks_spend_all_of_alpha_and_no_more() -> None:
    """The alphas of the looks add up to alpha (a union bound)."""
    default = Gate(return_range=(0, 1), crash_below=0)
    assert [n for n, _ in default.schedule()] == [250, 500, 1000, 2000]
    assert [alpha for _, alpha in default.schedule()] == pytest.approx([0.005, 0.01, 0.015, 0.02])
    for gate in (
        default,
        Gate(return_range=(0, 1), crash_below=0, max_pairs=3),
        Gate(return_range=(0, 1), crash_below=0, looks=(5, 9, 40)),
    ):
        assert sum(alpha for _, alpha in gate.schedule()) == pytest.approx(0.05)


@settings(max_examples=60, deadline=None)
@given(
    candidate=RETURNS,
    champion=RETURNS,
    cut=st.integers(0, 90),
    margin=st.sampled_from([0.0, 30.0, -30.0]),
)
def test_a_decision_is_final(
    candidate: list[float | None], champion: list[float | None], cut: int, margin: float
) -> None:
    """A decision on some pairs stays the same with more pairs."""
    gate = GATE.model_copy(update={"max_pairs": 80, "margin": margin, "crash_margin": 0.2})
    early, late = decide(candidate[:cut], champion[:cut], gate), decide(candidate, champion, gate)
    assert late.looks[: len(early.looks)] == early.looks
    if early.decision is not Decision.CONTINUE:
        assert (late.decision, late.reason, late.looks) == (
            early.decision,
            early.reason,
            early.looks,
        )
    else:
        assert early.next_look is not None
        assert early.next_look > min(cut, len(candidate), len(champion))


@settings(max_examples=60, deadline=None)
@given(candidate=RETURNS, champion=RETURNS)
def test_only_evidence_at_a_look_promotes(
    candidate: list[float | None], champion: list[float | None]
) -> None:
    """A promotion needs every p-value of a look within its alpha, and each answer has a reason."""
    verdict = decide(
        candidate, champion, GATE.model_copy(update={"max_pairs": 80, "crash_margin": 0.3})
    )
    assert verdict.reason
    if verdict.decision is Decision.PROMOTE:
        look = verdict.looks[-1]
        assert max(look.p_better, look.p_guard) <= look.alpha
        assert look.mean_difference > 0
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_a_lost_episode_counts_against_the_candidate() -> None:
    """A lost episode is the candidate's worst return and the champion's best."""
    gate = GATE.model_copy(update={"looks": (200,)})
    whole = decide(noisy(300, 200), noisy(250, 200, 1), gate).looks[0]
    ours = decide([None, *noisy(300, 200)[1:]], noisy(250, 200, 1), gate).looks[0]
    theirs = decide(noisy(300, 200), [None, *noisy(250, 200, 1)[1:]], gate).looks[0]
    assert ours.mean_difference < whole.mean_difference
    assert theirs.mean_difference < whole.mean_difference
    assert (ours.crashes_candidate, ours.lost, theirs.lost) == (whole.crashes_candidate + 1, 1, 1)
    assert min(ours.p_better, theirs.p_better) > whole.p_better


def test_a_lost_episode_is_a_crash_even_at_the_floor() -> None:
    """A lost episode is a crash even if the crash threshold equals the floor."""
    gate = Gate(return_range=(0, 500), crash_below=0, looks=(200,))
    assert decide([None, *noisy(300, 199)], noisy(250, 200), gate).looks[0].crashes_candidate == 1


def test_many_lost_episodes_are_no_evidence() -> None:
    """More than 1 % lost episodes mean an infrastructure problem, so the result is INCONCLUSIVE."""
    candidate = noisy(450, 100)
    candidate[:2] = [None, None]
    verdict = decide(candidate, noisy(50, 100), GATE)
    assert verdict.decision is Decision.INCONCLUSIVE
    assert "2 of 100 pairs were lost" in verdict.reason
    assert verdict.broken
    assert not decide(noisy(300, 800), noisy(300, 800, 1), GATE).broken


@pytest.mark.parametrize("losing", ["candidate", "champion", "candidate in windy"])
def test_a_verdict_says_whose_episodes_were_lost(losing: str) -> None:
    """The seeds and the evaluator's reasons are part of the verdict."""
    shards = {
        name: shard(
            returns=(None, *noisy(450, 99)) if name == losing else tuple(noisy(150, 100)),
            problems=("seed 5: the reward is not finite",) if name == losing else (),
        )
        for name in ("candidate", "champion", "candidate in windy", "champion in windy")
    }
    candidate, champion, *windy = shards.values()
    gate = GATE.model_copy(update={"scenarios": {"windy": 100.0}})
    verdict = decide_shards(candidate, champion, gate, {"windy": (windy[0], windy[1])})
    (lost,) = verdict.lost_episodes
    assert (lost.policy, lost.n_lost, lost.n, lost.seeds) == (losing, 1, 100, (5,))
    assert lost.problems == ("seed 5: the reward is not finite",)
    assert not lost.is_too_much
    assert not verdict.broken


@pytest.mark.parametrize(
    ("candidate", "champion", "changes", "decision", "message"),
    [
        (450, 150, {}, Decision.PROMOTE, "the candidate is better"),
        (150, 450, {}, Decision.KEEP, "is not better"),
        (300, 300, {"looks": (50,)}, Decision.INCONCLUSIVE, "did not tell the two apart"),
        (300, 300, {}, Decision.INCONCLUSIVE, "even two standard errors more could not be shown"),
        (300, 300, {"margin": -100}, Decision.PROMOTE, "the candidate is better"),
        (400, 300, {"margin": 150}, Decision.KEEP, "is not better"),
        (450, 150, {"max_crash_rate": 0.02}, Decision.PROMOTE, "crashes in at most 2.0%"),
    ],
    ids=[
        "better",
        "worse",
        "alike",
        "hopeless",
        "non-inferior",
        "not better by enough",
        "below the ceiling",
    ],
)
def test_decisions_and_their_reasons(
    candidate: float, champion: float, changes: dict[str, Any], decision: Decision, message: str
) -> None:
    """Each decision names the test that decided."""
    gate = GATE.model_copy(update={"max_pairs": 1600, **changes})
    verdict = decide(noisy(candidate, 1600), noisy(champion, 1600, 1), gate)
    assert (verdict.decision, message in verdict.reason) == (decision, True), verdict.reason


def test_a_higher_mean_with_more_crashes_is_kept_out() -> None:
    """The crash guard must pass, and a refuted guard keeps the champion."""
    rng = random.Random(0)
    candidate: list[float | None] = [20.0 if rng.random() < 0.3 else 490.0 for _ in range(800)]
    verdict = decide(candidate, noisy(300, 800), GATE)
    assert verdict.decision is Decision.KEEP
    assert "crashes more often (" in verdict.reason


def test_an_absolute_ceiling_stops_the_ratchet() -> None:
    """A candidate above the crash ceiling is not promoted, even if the champion is no better."""
    rng = random.Random(0)
    champion: list[float | None] = [0.0 if rng.random() < 0.1 else 300.0 for _ in range(800)]
    candidate = [0.0 if value == 0 else 480.0 for value in champion]
    assert decide(candidate, champion, GATE).decision is Decision.PROMOTE
    assert (
        decide(candidate, champion, GATE.model_copy(update={"max_crash_rate": 0.05})).decision
        is not Decision.PROMOTE
    )


def test_every_scenario_is_guarded() -> None:
    """More crashes in one scenario keep the champion; no scenario needs a better mean."""
    gate = GATE.model_copy(update={"scenarios": {"windy": 100.0, "dark": 100.0}})
    better, worse = noisy(450, 800), noisy(150, 800, 1)
    fine, crashing = noisy(300, 800), noisy(50, 800)
    assert (
        decide(better, worse, gate, {"windy": (fine, fine), "dark": (fine, fine)}).decision
        is Decision.PROMOTE
    )
    kept = decide(better, worse, gate, {"windy": (fine, fine), "dark": (crashing, fine)})
    assert kept.decision is Decision.KEEP
    assert "crashes more often in dark" in kept.reason
    waiting = decide(better, worse, gate, {"windy": (fine, fine), "dark": (fine[:10], fine)})
    assert (waiting.decision, waiting.next_look) == (Decision.CONTINUE, 100)
    lost = decide(better, worse, gate, {"windy": (fine, fine), "dark": ([None] * 800, fine)})
    assert lost.decision is Decision.INCONCLUSIVE


def test_two_thousand_pairs_are_decided_within_a_second() -> None:
    """All four looks take less than a second of processor time."""
    rng = random.Random(0)
    gate = Gate(return_range=(-200, 320), crash_below=100)
    candidate = [rng.gauss(154, 100) for _ in range(2000)]
    champion = [rng.gauss(150, 100) for _ in range(2000)]
    started = time.process_time()
    verdict = decide(candidate, champion, gate)
    assert time.process_time() - started < 1.0
    assert len(verdict.looks) == 4


def test_a_first_champion_must_be_shown_to_lie_above_the_bar() -> None:
    """A mean above the bar promotes, below it keeps, and at the bar shows nothing."""
    assert decide_first(noisy(450, 800), 300, GATE).decision is Decision.PROMOTE
    assert decide_first(noisy(150, 800), 300, GATE).decision is Decision.KEEP
    assert decide_first(noisy(300, 800), 300, GATE).decision is Decision.INCONCLUSIVE
    assert decide_first(noisy(450, 99), 300, GATE).next_look == 100


def test_a_first_champion_must_keep_below_the_ceiling() -> None:
    """A first champion has no predecessor, so the ceiling is its only crash guard."""
    candidate = noisy(450, 800)
    candidate[::10] = [50.0] * 80
    assert decide_first(candidate, 300, GATE).decision is Decision.PROMOTE
    ceiling = GATE.model_copy(update={"max_crash_rate": 0.05})
    verdict = decide_first(candidate, 300, ceiling)
    assert verdict.decision is Decision.INCONCLUSIVE
    assert "few enough crashes" in verdict.reason


def test_without_a_bar_a_first_champion_must_leave_the_floor() -> None:
    """Without a bar, the first champion is compared with the floor of the return range."""
    assert decide_first(noisy(100, 800), None, GATE).decision is Decision.PROMOTE
    assert decide_first([0.0] * 800, None, GATE).decision is Decision.INCONCLUSIVE


def test_the_champion_itself_is_unchanged() -> None:
    """The champion itself is recognised without an episode; a new lineage is judged again."""
    none = Artifact(key="k", sha256="0" * 64)
    champion = Champion(version=4, etag="e", digest="d" * 64, policy=none, parameters=none)
    verdict = decide_unchanged("d" * 64, champion)
    assert verdict is not None
    assert verdict.decision is Decision.UNCHANGED
    assert "version 4" in verdict.reason
    assert decide_unchanged("e" * 64, champion) is None
    assert decide_unchanged("d" * 64, None) is None
    assert (
        decide_unchanged("d" * 64, champion.model_copy(update={"new_lineage": "another range"}))
        is None
    )


def shard(first_seed: int = 5, **changes: Any) -> Shard:
    """Build a shard of one episode."""
    return Shard(
        env_id="E-v0",
        policy_sha256="a",
        first_seed=first_seed,
        returns=(1.0,),
        lengths=(1,),
        ends=(EpisodeEnd.TERMINATED,),
        steps=1,
        seconds=1.0,
    ).model_copy(update=changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"first_seed": 6},
        {"env_id": "F-v0"},
        {"env_kwargs": {"wind": 1}},
        {"deterministic": False},
        {"perturbation": Perturbation(sticky_actions=0.5)},
    ],
    ids=str,
)
def test_evaluations_that_are_no_pairs_are_refused(changes: dict[str, Any]) -> None:
    """Evaluations with other seeds, environments or settings are not compared."""
    with pytest.raises(InvalidRecordError):
        decide_shards(shard(), shard(**changes), GATE)
    with pytest.raises(InvalidRecordError):
        decide_shards(shard(), shard(), GATE, {"windy": (shard(), shard(**changes))})


def test_the_gate_is_what_the_experiment_declares() -> None:
    """Every declared key reaches the gate; a scenario without a threshold uses the experiment's."""
    document = {
        "env_id": "E-v0",
        "algo": "ppo",
        "total_timesteps": 1,
        "gate": {"alpha": 0.01, "margin": 3, "max_crash_rate": 0.1},
        "evaluation": {
            "return_range": [0, 10],
            "crash_below": 2,
            "max_pairs": 800,
            "scenarios": {"a": {}, "b": {"crash_below": 1}},
        },
    }
    gate = gate_of(read_experiment(document, "e"))
    assert gate == Gate(
        return_range=(0, 10),
        crash_below=2,
        alpha=0.01,
        margin=3,
        max_crash_rate=0.1,
        max_pairs=800,
        scenarios={"a": 2, "b": 1},
    )


def test_every_setting_of_an_experiments_gate_is_the_gates_with_its_limits_and_default() -> None:
    """Every declared setting is a setting of the gate with the same limits and default."""
    changed = {"alpha": 0.01, "margin": 3.0, "crash_margin": 0.1, "max_crash_rate": 0.5}
    assert changed.keys() == GateSettings.model_fields.keys()
    declared = {
        "env_id": "CartPole-v1",
        "algo": "ppo",
        "total_timesteps": 1,
        "evaluation": {"return_range": [0, 500], "crash_below": 100, "max_pairs": 777},
        "gate": changed,
    }
    frozen = gate_of(read_experiment(declared, "e")).model_dump()
    assert frozen | changed | {"max_pairs": 777} == frozen
    for key, field in GateSettings.model_fields.items():
        of_gate = Gate.model_fields[key]
        assert (of_gate.annotation, of_gate.metadata) == (field.annotation, field.metadata)
        assert of_gate.default == field.default
    assert Gate.model_fields["max_pairs"].default == Evaluation.model_fields["max_pairs"].default
