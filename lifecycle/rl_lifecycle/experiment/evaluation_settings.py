"""The `evaluation`, `gate` and `early_stop` keys of an experiment: how a policy is judged."""

from typing import Self

from pydantic import (
    Field,
    JsonValue,
    model_validator,
)

from rl_lifecycle.experiment.gate_settings import (
    ALPHA,
    CRASH_MARGIN,
    FEWEST_PAIRS,
    MARGIN,
    MAX_CRASH_RATE,
    MAX_PAIRS,
    MOST_PAIRS,
    Alpha,
    CrashMargin,
    CrashRate,
)
from rl_lifecycle.records.record import Record


class Perturbation(Record):
    """The noise that disturbs an episode. It has a separate seed."""

    observation_noise: float = Field(
        0.0, ge=0, description="standard deviation added to observations that are real numbers"
    )
    action_noise: float = Field(
        0.0, ge=0, description="the same for actions, then clipped to their bounds"
    )
    sticky_actions: float = Field(
        0.0, ge=0, lt=1, description="probability that the previous action is repeated"
    )


UNDISTURBED = Perturbation()


class Scenario(Record):
    """A variation of the environment in which a candidate must not crash more often."""

    env_kwargs: dict[str, JsonValue] = {}
    perturbation: Perturbation = Perturbation()
    crash_below: float | None = Field(
        None, description="its own crash threshold; null: the base scenario's"
    )


class Evaluation(Record):
    """How a policy is evaluated.

    The return range and the crash threshold have no default, because only the author of the
    experiment can choose them.
    """

    return_range: tuple[float, float]
    crash_below: float
    first_champion_above: float | None = Field(
        None, description="mean return that the first champion must exceed"
    )
    max_pairs: int = Field(
        MAX_PAIRS,
        ge=FEWEST_PAIRS,
        le=MOST_PAIRS,
        description="the most pairs of episodes that the gate may use",
    )
    selection_episodes: int = Field(
        100,
        ge=1,
        le=2000,
        description="episodes of each policy, from which a run's candidate is chosen",
    )
    deterministic: bool = True
    scenarios: dict[str, Scenario] = {}

    @model_validator(mode="after")
    def _ranges_fit(self) -> Self:
        low, high = self.return_range
        if not low < high:
            raise ValueError(
                f"return_range must be [lowest, highest] with lowest < highest, not [{low:g}, "
                f"{high:g}]"
            )
        if not low <= self.crash_below <= high:
            raise ValueError(
                f"crash_below must lie within return_range [{low:g}, {high:g}], not "
                f"{self.crash_below:g}"
            )
        if self.first_champion_above is not None and not low <= self.first_champion_above < high:
            raise ValueError(
                f"first_champion_above must lie within return_range [{low:g}, {high:g})"
            )
        return self


class GateSettings(Record):
    """How sure the gate must be before it promotes a candidate."""

    alpha: Alpha = Field(ALPHA, description="probability of a false promotion, all looks together")
    margin: float = Field(
        MARGIN, description="how much better the mean must be; negative: non-inferiority"
    )
    crash_margin: CrashMargin = Field(
        CRASH_MARGIN, description="how much more often it may crash than the champion"
    )
    max_crash_rate: CrashRate | None = Field(
        MAX_CRASH_RATE, description="how often it may crash at all"
    )


class EarlyStop(Record):
    """When a trial ends before its last step, judged by its policies on the selection seeds."""

    target_above: float | None = Field(
        None, description="end a trial whose policy is shown to have a mean return above it"
    )
    hopeless_below: float | None = Field(
        None, description="end a trial whose every policy is shown to have one below it"
    )
    hopeless_after: float = Field(
        0.5, gt=0, lt=1, description="share of the steps before which no trial is called hopeless"
    )

    @property
    def active(self) -> bool:
        """Whether a trial may end early."""
        return self.target_above is not None or self.hopeless_below is not None
