"""Copy new lines of a machine's log into the task's log while the task waits, each line once.

The trainer writes its log and its curve at the end of each segment. Then this module fetches the
new bytes of the log, and the newest chunk of the curve. The segment's number gives their keys, so
no LIST is needed.
"""

import asyncio

from rl_airflow.errors import first_line
from rl_airflow.trials.progress_reports import read_curve_end, readable_line
from rl_airflow.trials.shared_watch import SharedWatch
from rl_lifecycle.records.record import Record
from rl_lifecycle.storage.layout import TrialId, trainer_log_key
from rl_lifecycle.storage.object_store import ObjectStore, read_from
from rl_lifecycle.trials.evidence import Evidence
from rl_lifecycle.trials.heartbeats import Heartbeat

#: The most lines that are copied at once. The log in the bucket has all lines.
MOST_LINES = 100


class LogPosition(Record):
    """How far a machine's log was copied. It travels with the trigger and survives a retry."""

    attempt: int = 0
    segment: int = 0
    n_bytes: int = 0


async def relay(
    watch: SharedWatch, trial: TrialId, evidence: Evidence, told: LogPosition
) -> tuple[LogPosition, list[str]]:
    """Read the new lines if a segment has ended since the last call.

    Lines that cannot be read now are tried again at the next call.

    :param told: how far the log was copied before.
    :return: how far it is copied now, and the new lines.
    """
    beat = evidence.beat
    if beat is None:
        return told, []
    if beat.attempt != told.attempt:
        told = LogPosition(attempt=beat.attempt)
    if beat.segment <= told.segment:
        return told, []
    try:
        new, point = await asyncio.gather(
            watch.read(lambda store: read_new(store, trial, told)),
            watch.read(
                lambda store: read_curve_end(
                    store, trial, curve_steps(beat, evidence.segment_timesteps)
                )
            ),
        )
    except Exception as error:  # the log is only for people, so the wait continues without it
        return told, [f"{trial.trial}: its log could not be read ({first_line(error)})"]
    lines = [
        f"{trial.trial} | {readable_line(line)}"
        for line in new.decode(errors="replace").splitlines()
    ]
    if (more := len(lines) - MOST_LINES) > 0:
        lines = [f"{trial.trial} | … {more} lines more are in its log", *lines[more:]]
    if point:
        lines.append(f"{trial.trial}: {point}")
    return LogPosition(
        attempt=beat.attempt, segment=beat.segment, n_bytes=told.n_bytes + len(new)
    ), lines


def curve_steps(beat: Heartbeat, segment_timesteps: int) -> tuple[int, ...]:
    """Return the steps at which the newest chunk of the curve may be, the most likely step first.

    A chunk is written while the next segment trains.

    >>> beat = Heartbeat(attempt=1, state="training", step=2500, total_timesteps=4100,
    ...                  steps_per_s=1, at="2026-01-01T00:00Z", segment=2)
    >>> last = beat.model_copy(update={"segment": 4, "step": 4128})
    >>> curve_steps(beat, 1000), curve_steps(last, 1000)
    ((2000, 1000), (4000, 4128, 3000))
    """
    ends = [beat.segment * segment_timesteps, (beat.segment - 1) * segment_timesteps]
    if (
        beat.step >= beat.total_timesteps
    ):  # the last segment may be longer or shorter than the others
        ends.insert(1, beat.step)
    return tuple(dict.fromkeys(step for step in ends if step > 0))


def read_new(store: ObjectStore, trial: TrialId, told: LogPosition) -> bytes:
    """Read the whole lines that were not copied yet."""
    new = read_from(store, trainer_log_key(trial, told.attempt), told.n_bytes)
    return new[: new.rfind(b"\n") + 1]
