"""The promotion gate: pure functions from paired returns to a decision, with an exact p-value and alpha spent by look.

The p-value is Gaffke's bound: the posterior probability that a mean is at most zero when one phantom observation at
the declared worst case is added to what was seen. It needs no law of the returns, only the declared floor, which is
why a rare crash that has not been seen yet cannot slip through. Formula without draws: Varsi (1973), Ali (1973).
Its coverage is, as far as known, a conjecture (Learned-Miller and Thomas, https://arxiv.org/abs/1905.06208); on 0/1
data it equals the exact binomial test.
"""

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.evaluations import Shard
from rl_lifecycle.experiments import Experiment
from rl_lifecycle.records import Record

#: Share of alpha that each of four looks may spend; by the union bound they spend all of it.
ALPHA_SHARES = (0.1, 0.2, 0.3, 0.4)
#: Share of max_pairs at which each look is taken.
LOOK_SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)
#: More lost episodes than this are trouble with the infrastructure, not evidence.
MAX_LOST = 0.01


class Decision(StrEnum):
    """What the gate says."""

    PROMOTE = "PROMOTE"
    KEEP = "KEEP"
    INCONCLUSIVE = "INCONCLUSIVE"
    CONTINUE = "CONTINUE"
    UNCHANGED = "UNCHANGED"


class Gate(Record):
    """The rule, declared before any return is seen."""

    return_range: tuple[float, float]
    crash_below: float
    alpha: float = Field(0.05, gt=0, lt=0.5)
    margin: float = 0.0
    crash_margin: float = Field(0.02, gt=0, lt=1)
    max_crash_rate: float | None = Field(None, gt=0, le=1)
    max_pairs: int = Field(2000, ge=1)
    looks: tuple[int, ...] = Field((), description="pairs at which to look; empty: 1/8, 1/4, 1/2 and all of max_pairs")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        low, high = self.return_range
        if not low < high:
            raise ValueError("return_range must be [lowest, highest] with lowest < highest")
        if abs(self.margin) >= high - low:
            raise ValueError("margin must be smaller than the width of return_range")
        if self.looks and (list(self.looks) != sorted(set(self.looks)) or self.looks[0] < 1):
            raise ValueError("looks must be increasing numbers of pairs")
        if self.looks and "max_pairs" in self.model_fields_set and self.looks[-1] > self.max_pairs:
            raise ValueError(f"looks must end at max_pairs ({self.max_pairs}) at the latest, not at {self.looks[-1]}")
        return self

    def schedule(self) -> tuple[tuple[int, float], ...]:
        """The looks: (pairs, alpha that may be spent there)."""
        if self.looks:
            # Later looks see more, so they may spend more: alpha grows with the look, as in the default schedule.
            total = len(self.looks) * (len(self.looks) + 1) / 2
            return tuple((n, self.alpha * k / total) for k, n in enumerate(self.looks, 1))
        pairs = [max(1, math.ceil(self.max_pairs * share)) for share in LOOK_SHARES]
        merged: dict[int, float] = {}
        for n, share in zip(pairs, ALPHA_SHARES, strict=True):
            merged[n] = merged.get(n, 0.0) + self.alpha * share
        return tuple(merged.items())


class Look(Record):
    """What was seen at one look. p values are of the hypotheses that promotion (or keeping) must refute."""

    n: int
    alpha: float
    mean_difference: float
    p_better: float
    p_guard: float
    p_worse: float
    p_guard_broken: float
    p_ceiling: float | None = None
    crashes_candidate: int
    crashes_champion: int
    lost: int


class Verdict(Record):
    """The gate's answer, with all that it rests on."""

    schema_version: Literal[1] = 1
    decision: Decision
    reason: str
    next_look: int | None = Field(None, description="pairs that the next look needs; None when there is none")
    n_pairs: int
    alpha_spent: float
    looks: tuple[Look, ...]
    mean_candidate: float | None = None
    mean_champion: float | None = None
    clipped_share: float = 0.0
    lost: int = 0
    ties: float = 0.0


def gate_of(experiment: Experiment) -> Gate:
    """The rule that an experiment declares."""
    evaluation, gate = experiment.evaluation, experiment.gate
    return Gate(return_range=evaluation.return_range, crash_below=evaluation.crash_below, alpha=gate.alpha,
                margin=gate.margin, crash_margin=gate.crash_margin, max_crash_rate=gate.max_crash_rate,
                max_pairs=evaluation.max_pairs)


def p_mean_at_most_zero(values: Sequence[float], worst: float) -> float:
    """Bound the probability of values like these if their mean were at most zero.

    P[sum_i w_i x_i - w_0 worst <= 0] for w uniform on the simplex, exactly. Takes about n²/4 additions.

    :param values: independent observations, none below `-worst`.
    :param worst: how far below zero an observation can lie; positive.
    :return: a p-value in [0, 1]; 1.0 when no value is positive.

    >>> round(p_mean_at_most_zero([0.75] * 30 + [-0.25] * 70, 0.25), 10)  # binomtest(30, 100, .25, "greater")
    0.1495410466
    """
    above = [value for value in values if value > 0]
    if not above:
        return 1.0
    below = [-value for value in values if value < 0]  # a zero moves no weight to either side
    below.append(worst)
    share = [0.0] * len(above)
    for fall in below:
        left = 1.0
        share = [left := (rise * old + fall * left) / (rise + fall) for rise, old in zip(above, share, strict=True)]
    return min(1.0, max(0.0, share[-1]))


def decide(candidate: Sequence[float | None], champion: Sequence[float | None], gate: Gate) -> Verdict:
    """Judge a candidate against a champion on paired episodes, replaying the looks on prefixes.

    :param candidate: returns on the gate's seeds, in their order; None: the episode was lost.
    :param champion: the same for the champion; only pairs that both have count.
    :return: CONTINUE with the pairs that the next look needs, or a decision that stands: further pairs do not change it.
    """
    n_pairs = min(len(candidate), len(champion))
    pairs = _Pairs(candidate[:n_pairs], champion[:n_pairs], gate)
    looks: list[Look] = []
    for n, alpha in gate.schedule():
        if n > n_pairs:
            return pairs.verdict(Decision.CONTINUE, f"{n} pairs are needed for the next look", looks, next_look=n)
        if pairs.lost(n) > MAX_LOST * n:
            return pairs.verdict(Decision.INCONCLUSIVE, f"{pairs.lost(n)} of {n} pairs were lost: that is trouble with the "
                                 "infrastructure, not evidence", looks)
        look = pairs.look(n, alpha)
        looks.append(look)
        decision, reason = _decide_look(look, gate)
        if decision is not Decision.CONTINUE:
            return pairs.verdict(decision, reason, looks)
        if reason := pairs.why_futile(n):
            return pairs.verdict(Decision.INCONCLUSIVE, reason, looks)
    return pairs.verdict(Decision.INCONCLUSIVE, "the last look did not tell the two apart: the champion stays", looks)


def _decide_look(look: Look, gate: Gate) -> tuple[Decision, str]:
    """Apply the rule to one look: improvement and guard must both be shown, or one of them refuted."""
    shown = {"better": look.p_better, "crashes no more often": look.p_guard}
    if look.p_ceiling is not None:
        shown[f"crashes in at most {gate.max_crash_rate:.1%}"] = look.p_ceiling
    if all(p <= look.alpha for p in shown.values()):
        said = ", ".join(f"{what} (p = {p:.2g})" for what, p in shown.items())
        return Decision.PROMOTE, f"after {look.n} pairs the candidate is {said}, each at most {look.alpha:.3g}"
    if look.p_worse <= look.alpha:
        return Decision.KEEP, f"after {look.n} pairs the candidate is not better (p = {look.p_worse:.2g} ≤ {look.alpha:.3g})"
    if look.p_guard_broken <= look.alpha:
        return Decision.KEEP, (f"after {look.n} pairs the candidate crashes more often "
                               f"({look.crashes_candidate} against {look.crashes_champion}; p = {look.p_guard_broken:.2g})")
    return Decision.CONTINUE, ""


class _Pairs:
    """Paired returns, clipped to the declared range; lost episodes count against the candidate."""

    def __init__(self, candidate: Sequence[float | None], champion: Sequence[float | None], gate: Gate) -> None:
        low, high = self.range = gate.return_range
        self.gate = gate
        self.missing = [a is None or b is None for a, b in zip(candidate, champion, strict=True)]
        self.raw = ([low if value is None else value for value in candidate],
                    [high if value is None else value for value in champion])
        self.candidate, self.champion = ([min(max(value, low), high) for value in raw] for raw in self.raw)
        self.differences = [a - b for a, b in zip(self.candidate, self.champion, strict=True)]
        self.crashed_candidate = [value is None or value < gate.crash_below for value in candidate]
        self.crashed_champion = [value < gate.crash_below for value in self.champion]

    def lost(self, n: int) -> int:
        return sum(self.missing[:n])

    def look(self, n: int, alpha: float) -> Look:
        gate, width = self.gate, self.range[1] - self.range[0]
        gains = [difference - gate.margin for difference in self.differences[:n]]
        guard = [float(b) - float(a) + gate.crash_margin
                 for a, b in zip(self.crashed_candidate[:n], self.crashed_champion[:n], strict=True)]
        ceiling = gate.max_crash_rate
        return Look(
            n=n, alpha=alpha, mean_difference=math.fsum(self.differences[:n]) / n,
            p_better=p_mean_at_most_zero(gains, width + gate.margin),
            p_guard=p_mean_at_most_zero(guard, 1 - gate.crash_margin),
            p_worse=p_mean_at_most_zero([-gain for gain in gains], width - gate.margin),
            p_guard_broken=p_mean_at_most_zero([-value for value in guard], 1 + gate.crash_margin),
            p_ceiling=None if ceiling is None else p_mean_at_most_zero(
                [ceiling - float(crashed) for crashed in self.crashed_candidate[:n]], 1 - ceiling),
            crashes_candidate=sum(self.crashed_candidate[:n]), crashes_champion=sum(self.crashed_champion[:n]), lost=self.lost(n))

    def why_futile(self, n: int) -> str:
        """Say why looking on is hopeless; empty when it is not. Stopping early never promotes, so it costs no alpha."""
        gate, (low, high) = self.gate, self.range
        seen = self.differences[:n]
        if gate.margin >= 0 and not any(seen):
            return f"all {n} pairs are ties: there is nothing to tell apart"
        mean = math.fsum(seen) / n
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in seen) / max(1, n - 1))
        hoped = mean + 2 * deviation / math.sqrt(n) - gate.margin
        last = gate.schedule()[-1][0]
        # 3 R/δ + (1.65 σ/δ)²: the pairs that the rule needs to show a difference δ.
        needed = math.inf if hoped <= 0 else 3 * (high - low) / hoped + (1.65 * deviation / hoped) ** 2
        if needed > last:
            return (f"after {n} pairs even a difference two standard errors better than the {mean:+.3g} seen "
                    f"could not be shown within {last} pairs")
        return ""

    def verdict(self, decision: Decision, reason: str, looks: list[Look], next_look: int | None = None) -> Verdict:
        n = len(self.differences)
        low, high = self.range
        outside = sum(not low <= value <= high for raw in self.raw for value in raw)
        return Verdict(
            decision=decision, reason=reason, next_look=next_look, n_pairs=n, alpha_spent=sum(look.alpha for look in looks),
            looks=tuple(looks), mean_candidate=math.fsum(self.candidate) / n if n else None,
            mean_champion=math.fsum(self.champion) / n if n else None, clipped_share=outside / (2 * n) if n else 0.0,
            lost=self.lost(n), ties=sum(d == 0 for d in self.differences) / n if n else 0.0)


def decide_first(candidate: Sequence[float | None], above: float | None, gate: Gate) -> Verdict:
    """Judge a first champion: its mean must be shown to lie above an absolute bar, and its crashes below the ceiling.

    The same rule with a champion that returns exactly the bar in every episode and never crashes more than the
    candidate may; so the looks, the alpha and the floor are the same.

    :param above: the bar; None: the floor of the return range, which any policy that ever leaves the floor passes.
    """
    low = gate.return_range[0]
    bar = low if above is None else above
    schedule = gate.schedule()
    pairs = _Pairs(candidate, [bar] * len(candidate), gate.model_copy(update={"margin": 0.0}))
    looks: list[Look] = []
    for n, alpha in schedule:
        if n > len(candidate):
            return pairs.verdict(Decision.CONTINUE, f"{n} episodes are needed for the next look", looks, next_look=n)
        if pairs.lost(n) > MAX_LOST * n:
            return pairs.verdict(Decision.INCONCLUSIVE, f"{pairs.lost(n)} of {n} episodes were lost: that is trouble with the "
                                 "infrastructure, not evidence", looks)
        look = pairs.look(n, alpha).model_copy(update={"p_guard": 0.0, "p_guard_broken": 1.0})
        looks.append(look)
        above_bar = look.p_better <= alpha
        below_ceiling = look.p_ceiling is None or look.p_ceiling <= alpha
        if above_bar and below_ceiling:
            return pairs.verdict(Decision.PROMOTE, f"after {n} episodes the mean return is above {bar:g} "
                                 f"(p = {look.p_better:.2g} ≤ {alpha:.3g}): the first champion", looks)
        if look.p_worse <= alpha:
            return pairs.verdict(Decision.KEEP, f"after {n} episodes the mean return is not above {bar:g} "
                                 f"(p = {look.p_worse:.2g} ≤ {alpha:.3g}): there is still no champion", looks)
    return pairs.verdict(Decision.INCONCLUSIVE, f"the last look did not show a mean return above {bar:g}: "
                         "there is still no champion", looks)


def decide_shards(candidate: Shard, champion: Shard, gate: Gate) -> Verdict:
    """Judge two evaluations.

    :raises InvalidRecordError: if they are not of the same environment, settings and seeds.
    """
    if candidate.first_seed != champion.first_seed:
        raise InvalidRecordError("decide", f"the candidate's seeds begin at {candidate.first_seed}, the champion's at "
                                 f"{champion.first_seed}: pairs need the same seeds")
    if (candidate.env_id, candidate.env_kwargs, candidate.deterministic) != (
            champion.env_id, champion.env_kwargs, champion.deterministic):
        raise InvalidRecordError("decide", f"the candidate was evaluated on {candidate.env_id}, the champion on "
                                 f"{champion.env_id}, or with other settings: evaluate both alike")
    return decide(candidate.returns, champion.returns, gate)
