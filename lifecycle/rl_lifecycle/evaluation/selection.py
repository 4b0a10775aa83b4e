"""The choice of a run's candidate: the policy with the best mean return on the selection seeds.

The gate never uses these seeds. If the best of many policies were chosen on the gate's own seeds,
false promotions would be more likely. docs/gate.md shows how much.
"""

import math
from collections.abc import Mapping

from pydantic import Field

from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.evaluation.requests import Shard
from rl_lifecycle.experiment.evaluation_settings import Evaluation
from rl_lifecycle.records.record import Record

#: The beginning of the names of selection evaluations.
SELECTION = "select-"


class Contender(Record):
    """A policy and its results on the selection seeds."""

    trial: str
    step: int
    mean_return: float = Field(
        description="returns clipped to the declared range; a lost episode counts as the floor"
    )
    crash_rate: float
    n_episodes: int


def selection_name(trial: str, step: int) -> str:
    """The name of the selection evaluation of a policy.

    >>> selection_name("seed-0", 40960)
    'select-seed-0-40960'
    """
    return f"{SELECTION}{trial}-{step}"


def read_selection_name(name: str) -> tuple[str, int] | None:
    """Read trial and step from the name of a selection evaluation; None for other evaluations.

    >>> read_selection_name("select-seed-0-40960"), read_selection_name("gate")
    (('seed-0', 40960), None)
    """
    trial, _, step = name.removeprefix(SELECTION).rpartition("-")
    return (trial, int(step)) if name.startswith(SELECTION) and trial and step.isdecimal() else None


def summarise(trial: str, step: int, shard: Shard, evaluation: Evaluation) -> Contender:
    """Summarise the selection episodes of one policy."""
    low, high = evaluation.return_range
    returns = [low if value is None else min(max(value, low), high) for value in shard.returns]
    if not returns:
        raise InvalidRecordError(f"selection of {trial} at {step}", "holds no episode")
    return Contender(
        trial=trial,
        step=step,
        mean_return=math.fsum(returns) / len(returns),
        crash_rate=sum(value < evaluation.crash_below for value in returns) / len(returns),
        n_episodes=len(returns),
    )


def select(
    shards: Mapping[tuple[str, int], Shard], evaluation: Evaluation
) -> tuple[Contender, tuple[Contender, ...]]:
    """Choose the candidate.

    Between equal means, fewer crashes decide, then the later step, then the first trial by name.

    :param shards: (trial, step) → its selection episodes, all on the same seeds.
    :return: the candidate, and all contenders from best to worst.
    :raises InvalidRecordError: if there is no policy, and so no candidate.
    """
    if not shards:
        raise InvalidRecordError(
            "selection", "no trial delivered a policy, so there is no candidate"
        )
    ranking = sorted(
        (summarise(trial, step, shard, evaluation) for (trial, step), shard in shards.items()),
        key=lambda one: (-one.mean_return, one.crash_rate, -one.step, one.trial),
    )
    return ranking[0], tuple(ranking)
