"""The schedules of DAGs: cron in UTC. A DAG's first run is at its next time, not before."""

from datetime import UTC, datetime, timedelta

from airflow.sdk import CronTriggerTimetable
from croniter import CroniterError, croniter

from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.experiment.experiment import Experiment

#: How late the first scheduled run of a DAG may begin, measured at the last read of its file.
#: Airflow's own default is a tenth of the time between two runs. For a nightly DAG that is 2.4
#: hours. If a person unpauses the DAG in that time, a whole night starts and costs money. With
#: zero, a first night would be lost if its file was read again between its time and the scheduler's
#: next look, or if Airflow was being restarted. A first night is left out if a run by hand delays
#: it for longer.
LATE = timedelta(minutes=15)


def timetable_of(schedule: str | None) -> CronTriggerTimetable | None:
    """Make a timetable with a separate run for each scheduled time. The first run is at the next
    time, or at a time that was at most :data:`LATE` ago.

    :param schedule: a cron expression or a preset such as `@daily`, in UTC. None means only by
        hand.
    """
    return (
        None
        if schedule is None
        else CronTriggerTimetable(schedule, timezone="UTC", run_immediately=LATE)
    )


def describe_nights(schedule: str | None) -> str:
    """Describe when nights begin, for the form that triggers a run.

    The text names no date: a DAG whose text changes with the clock has a new version each day.

    >>> print(describe_nights("0 2 * * *").splitlines()[0])
    Nights begin by themselves at 02:00 UTC every day (`0 2 * * *`).
    >>> print(describe_nights("0 5 * * 1").splitlines()[0])
    Nights begin by themselves at the times of `0 5 * * 1` (UTC).
    >>> print(describe_nights(None).splitlines()[0])
    This experiment has no schedule: it runs only by hand.
    """
    if schedule is None:
        return (
            "This experiment has no schedule: it runs only by hand.\n"
            "**Triggering a paused DAG unpauses it**, because a paused DAG starts no task."
        )
    return (
        f"Nights begin by themselves at {_times_of(schedule)}.\n"
        "**Triggering a paused DAG unpauses it**, because a paused DAG starts no task. From then "
        "on nights begin until you pause it again: the next one at the next of these times, which "
        "the DAG's page shows as *Next Run*. If the DAG had nights by schedule before and was "
        "paused since, the last night that it missed begins at once, before or after this run."
    )


def _times_of(schedule: str) -> str:
    """Name the times of a schedule: the time of day if it is the same every day."""
    minute, hour, *days = [*schedule.split(), "", ""][:5]
    if days == ["*", "*", "*"] and minute.isdigit() and hour.isdigit():
        return f"{int(hour):02}:{int(minute):02} UTC every day (`{schedule}`)"
    return f"the times of `{schedule}` (UTC)"


def check_schedules(experiment: Experiment, source: str) -> None:
    """Refuse a schedule that Airflow would refuse, or whose time never comes.

    Airflow would refuse the whole DAG, and the DAG could then not show what is wrong.

    :param source: how the error calls the experiment's file.
    :raises InvalidExperimentError: naming the key, and what is allowed.
    """
    for key in ("schedule", "replay_schedule"):
        schedule: str | None = getattr(experiment, key)
        if schedule is not None and not _is_schedule(schedule):
            raise InvalidExperimentError(
                source,
                key,
                f'{schedule!r} is not a cron expression such as "0 2 * * *"; '
                "null means only by hand",
            )


def _is_schedule(text: str) -> bool:
    """Tell whether a text is a cron expression of five fields, or a preset, whose time comes.

    croniter also takes a sixth field for seconds and a seventh for years; Airflow does not describe
    those.

    >>> good = ("0 2 * * *", "*/15 0-6,22 * jan-mar mon", "@daily")
    >>> wrong = ("0 25 * * *", "every night", "0 2 30 2 *", "0 0 2 * * *", "@reboot")
    >>> [_is_schedule(text) for text in good], [_is_schedule(text) for text in wrong]
    ([True, True, True], [False, False, False, False, False])
    """
    if len(text.split()) not in (1, 5):
        return False
    try:
        croniter(text, datetime.now(UTC)).get_next()
    except (CroniterError, ValueError):
        return False
    return True
