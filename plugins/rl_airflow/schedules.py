"""When DAGs run by themselves: cron in UTC, and a first night that somebody waited for, not one that was due before."""

from datetime import timedelta

from airflow.sdk import CronTriggerTimetable

#: How long after its time a DAG that never ran by schedule may still begin, as of when its file was read last. Airflow's own default
#: is a tenth of the schedule's gap, which starts, and bills, a whole night when a nightly DAG is unpaused up to 2.4 hours after
#: its time. None at all would lose a first night whose file was read again between its time and the scheduler's next look, or
#: that came while Airflow was being restarted. A first night that a run by hand holds up for longer is left out.
LATE = timedelta(minutes=15)


def timetable_of(schedule: str | None) -> CronTriggerTimetable | None:
    """Make a timetable whose every run is one of its own; the first is the next one due, or one that is late by :data:`LATE` at most.

    :param schedule: a cron expression or a preset such as `@daily`, in UTC; None: only by hand.
    """
    return (
        None
        if schedule is None
        else CronTriggerTimetable(schedule, timezone="UTC", run_immediately=LATE)
    )
