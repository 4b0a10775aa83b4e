"""The cost of interruptions: steps that were trained twice, and time until the first new step."""

import itertools
import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from rl_lifecycle.machines.machine_attempts import Attempt, AttemptEnd
from rl_lifecycle.records.record import Record
from rl_lifecycle.trials.heartbeats import Heartbeat, TrainerState


class Recovery(Record):
    """One machine that was lost, and the time until the next machine continued the training."""

    attempt: int
    end: AttemptEnd
    steps_lost: int | None
    seconds_to_new_machine: float | None
    seconds_to_first_step: float | None


def find_recoveries(attempts: Sequence[Attempt]) -> tuple[Recovery, ...]:
    """Pair each machine that was lost with the next machine.

    Refused requests between the two are part of the wait.

    :return: oldest first. A value that was not seen is None.
    """
    ran = [attempt for attempt in attempts if attempt.outcome.instance_id is not None]
    found = []
    for lost, next_one in itertools.pairwise(ran):
        before, after = lost.outcome, next_one.outcome
        if before.end is None:
            continue
        noticed_at = before.notice_at or before.ended_at
        steps = (
            None
            if before.reached_step is None
            else max(0, before.reached_step - (before.committed_step or 0))
        )
        found.append(
            Recovery(
                attempt=lost.attempt,
                end=before.end,
                steps_lost=steps,
                seconds_to_new_machine=_seconds(noticed_at, after.launched_at),
                seconds_to_first_step=_seconds(noticed_at, after.first_step_at),
            )
        )
    return tuple(found)


def first_step_of(beat: Heartbeat, committed_step: int) -> datetime | None:
    """Estimate when a machine trained its first step, from a heartbeat shortly after that.

    :param committed_step: the step from which it resumed.
    :return: None if it has not trained yet.
    """
    if beat.state is not TrainerState.TRAINING or beat.step <= committed_step:
        return None
    since = (beat.step - committed_step) / beat.steps_per_s if beat.steps_per_s > 0 else 0.0
    return beat.at - timedelta(seconds=min(since, 60.0) if math.isfinite(since) else 0.0)


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else round((end - start).total_seconds(), 3)
