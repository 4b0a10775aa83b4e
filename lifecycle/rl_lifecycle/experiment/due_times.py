"""The time by which a result is needed, and whether spot leaves enough time until then.

Spot is cheaper, but AWS may take the machine away. So a trial stays on spot only as long as an
on-demand machine could still finish the training after an interruption at the worst moment. The
worst moment is just before a segment ends: only whole segments are committed, so the whole segment
is trained again.
"""

import re
from datetime import UTC, date, datetime, timedelta

#: A time of day, as it is written in an experiment file.
TIME_OF_DAY = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
#: The estimate of the remaining time is raised by this share, because the speed varies.
SPARE_SHARE = 0.25
#: Time for the start of another machine, the selection and the gate.
SPARE_S = 900.0


def read_needed_by(value: object) -> str | None:
    """Check a due time and convert it to its canonical form.

    :raises ValueError: with the forms that are allowed.

    >>> read_needed_by("06:30"), read_needed_by("2026-12-01T07:00+01:00")
    ('06:30', '2026-12-01T06:00:00+00:00')
    """
    if value is None:
        return None
    if isinstance(value, str) and TIME_OF_DAY.fullmatch(value):
        return value
    moment = _read_moment(value)
    if moment is None:
        raise ValueError(
            'must be a time of day in UTC, in quotes, such as "06:30", or a moment such as '
            '"2026-12-01T06:00Z"'
        )
    return moment.astimezone(UTC).isoformat()


def _read_moment(value: object) -> datetime | None:
    """Read a moment with its offset.

    Without quotes, YAML gives a datetime for a moment and a number for a time of day.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo is not None else None


def needed_at(needed_by: str | None, created_at: datetime) -> datetime | None:
    """The moment at which the result of a run is needed.

    A time of day means the next such time after the start of the run.

    :param created_at: when the run was frozen, an aware UTC datetime.

    >>> needed_at("06:30", datetime(2026, 11, 22, 7, tzinfo=UTC)).isoformat()
    '2026-11-23T06:30:00+00:00'
    """
    if needed_by is None:
        return None
    if not TIME_OF_DAY.fullmatch(needed_by):
        return datetime.fromisoformat(needed_by)
    hour, minute = map(int, needed_by.split(":"))
    today = _at(created_at.astimezone(UTC).date(), hour, minute)
    return today if today > created_at else today + timedelta(days=1)


def _at(day: date, hour: int, minute: int) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)


def spot_leaves_time(
    due_at: datetime | None, now: datetime, left_s: float, segment_s: float = 0.0
) -> bool:
    """Whether the rest of a training may be tried on spot.

    :param due_at: when the result is needed. None means that there is no such time.
    :param left_s: seconds of training that are left after the last commit, at the last known speed.
    :param segment_s: seconds of a segment; an interruption repeats at most one segment.

    >>> due = datetime(2026, 11, 22, 6, tzinfo=UTC)
    >>> spot_leaves_time(due, datetime(2026, 11, 22, 3, tzinfo=UTC), left_s=3600)
    True
    >>> spot_leaves_time(due, datetime(2026, 11, 22, 5, tzinfo=UTC), left_s=3600)
    False
    """
    needed_s = (1 + SPARE_SHARE) * left_s + min(segment_s, left_s) + SPARE_S
    return due_at is None or now + timedelta(seconds=needed_s) <= due_at
