"""What the gate is made from and answers: its rule, its looks and its verdict."""

import math
from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from rl_lifecycle.evaluation.lost_episodes import LostEpisodes
from rl_lifecycle.experiment.experiment import Experiment
from rl_lifecycle.experiment.gate_settings import (
    ALPHA,
    ALPHA_SHARES,
    CRASH_MARGIN,
    MARGIN,
    MAX_CRASH_RATE,
    MAX_PAIRS,
    Alpha,
    CrashMargin,
    CrashRate,
)
from rl_lifecycle.records.record import Record

#: Share of max_pairs at which each look is taken.
LOOK_SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)


class Decision(StrEnum):
    """The answers of the gate."""

    PROMOTE = "PROMOTE"
    KEEP = "KEEP"
    INCONCLUSIVE = "INCONCLUSIVE"
    CONTINUE = "CONTINUE"
    UNCHANGED = "UNCHANGED"


class Gate(Record):
    """The rule of the gate, declared before any return is seen."""

    return_range: tuple[float, float]
    crash_below: float
    alpha: Alpha = ALPHA
    margin: float = MARGIN
    crash_margin: CrashMargin = CRASH_MARGIN
    max_crash_rate: CrashRate | None = MAX_CRASH_RATE
    max_pairs: int = Field(MAX_PAIRS, ge=1)
    looks: tuple[int, ...] = Field(
        (), description="pairs at which to look; empty: 1/8, 1/4, 1/2 and all of max_pairs"
    )
    scenarios: dict[str, float] = Field(
        {}, description="scenario → its crash threshold; the crash guard must hold in each"
    )

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
            raise ValueError(
                f"looks must end at max_pairs ({self.max_pairs}) at the latest, not at "
                f"{self.looks[-1]}"
            )
        return self

    def schedule(self) -> tuple[tuple[int, float], ...]:
        """The looks: (pairs, alpha that may be spent at this look)."""
        if self.looks:
            # Later looks have more pairs, so they may spend more alpha. The alpha of a look grows
            # with its number, as in the default schedule.
            total = len(self.looks) * (len(self.looks) + 1) / 2
            return tuple((n, self.alpha * k / total) for k, n in enumerate(self.looks, 1))
        pairs = [max(1, math.ceil(self.max_pairs * share)) for share in LOOK_SHARES]
        merged: dict[int, float] = {}
        for n, share in zip(pairs, ALPHA_SHARES, strict=True):
            merged[n] = merged.get(n, 0.0) + self.alpha * share
        return tuple(merged.items())

    def without_margin(self) -> Self:
        """The same gate with a margin of 0."""
        return self.model_copy(update={"margin": 0.0})


class Guard(Record):
    """The crashes in one scenario at one look."""

    p_guard: float
    p_guard_broken: float
    crashes_candidate: int
    crashes_champion: int
    lost: int


class Look(Record):
    """The results at one look.

    Each p-value belongs to a hypothesis that must be rejected to promote, or to keep the champion.
    """

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
    scenarios: dict[str, Guard] = {}

    def against_bar(self, *, p_better: float, p_worse: float) -> Self:
        """Replace the champion by a bar. A bar never crashes, and its crash guard always holds."""
        return self.model_copy(
            update={
                "p_better": p_better,
                "p_worse": p_worse,
                "p_guard": 0.0,
                "p_guard_broken": 1.0,
                "crashes_champion": 0,
            }
        )


class Verdict(Record):
    """The decision of the gate, and everything that it was made from."""

    schema_version: Literal[1] = 1
    decision: Decision
    reason: str
    next_look: int | None = Field(
        None, description="pairs that the next look needs; None when there is none"
    )
    n_pairs: int
    alpha_spent: float
    looks: tuple[Look, ...]
    mean_candidate: float | None = None
    mean_champion: float | None = None
    clipped_share: float = 0.0
    lost: int = 0
    ties: float = 0.0
    broken: bool = Field(
        False, description="more episodes were lost than a verdict may lack: nothing was decided"
    )
    lost_episodes: tuple[LostEpisodes, ...] = ()

    def with_lost(self, lost: tuple[LostEpisodes, ...]) -> Self:
        """Say whose episodes were lost."""
        return self.model_copy(update={"lost_episodes": lost})

    def as_broken(self) -> Self:
        """Mark a verdict that lacks too many episodes."""
        return self.model_copy(update={"broken": True})


def gate_of(experiment: Experiment) -> Gate:
    """The gate that an experiment declares."""
    evaluation, gate = experiment.evaluation, experiment.gate
    thresholds = {
        name: evaluation.crash_below if scenario.crash_below is None else scenario.crash_below
        for name, scenario in evaluation.scenarios.items()
    }
    return Gate(
        return_range=evaluation.return_range,
        crash_below=evaluation.crash_below,
        alpha=gate.alpha,
        margin=gate.margin,
        crash_margin=gate.crash_margin,
        max_crash_rate=gate.max_crash_rate,
        max_pairs=evaluation.max_pairs,
        scenarios=thresholds,
    )
