"""Who ended a run or a task by hand, from Airflow's audit log.

Airflow tells a task that its run was marked as failed, but not by whom. The audit log has the name,
and only Airflow's own processes may read the database. When a person gives a run or a task a state,
the API server calls the listeners after it has written the log. So the listener reads the name
there and keeps it as an XCom for the run's last task. No task needs a password for the API.

Source: `action_logging` in `airflow.api_fastapi.logging.decorators`, which commits the log before
the request is carried out, and `patch_dag_run_state` and `_patch_task_instance_state`, which call
the listeners (Airflow 3.3).
"""

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl

from rl_airflow.errors import first_line

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.models.log import Log
    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)

#: The XCom key of who ended a task by hand, and when.
ENDED_BY_KEY = "ended_by"
#: The XCom key of who ended the whole run, and the task that has it. The last task would lose it:
#: Airflow deletes a task's XComs when the task begins.
RUN_ENDED_BY_KEY, RUN_TASK_ID = "run_ended_by", "freeze_spec"
#: The tag of this project's DAGs.
TAG = "nightshift"
#: The events of a person's acts on runs and tasks: the names of the API's own functions. The log
#: also has the begin and end of every task, which are many.
RUN_ACTS = ("patch_dag_run", "bulk_dag_runs")
TASK_ACTS = ("patch_task_instance", "patch_task_group_instances", "bulk_task_instances")
#: The listener is called in the request that wrote the log. An older event is another request's.
RECENT = timedelta(minutes=1)


class EndedByHandListener:
    """Keeps who ended a run or a task by hand. An error is only logged."""

    @hookimpl
    def on_task_instance_failed(self, previous_state: Any, task_instance: Any, error: Any) -> None:
        """Keep who marked a task as failed."""
        del error
        _keep_task(previous_state, task_instance)

    @hookimpl
    def on_task_instance_skipped(self, previous_state: Any, task_instance: Any) -> None:
        """Keep who marked a task as skipped."""
        _keep_task(previous_state, task_instance)

    @hookimpl
    def on_dag_run_failed(self, dag_run: "DagRun", msg: str) -> None:
        """Keep who marked a run as failed. Airflow also calls this when a run fails by itself."""
        del msg
        _keep(dag_run, RUN_ACTS, RUN_TASK_ID, -1, RUN_ENDED_BY_KEY)


def _keep_task(previous_state: Any, task_instance: Any) -> None:
    # A task that ends by itself has a previous state. Then this is its own process, which may not
    # use the database.
    if previous_state is None:
        _keep(
            task_instance,
            (*RUN_ACTS, *TASK_ACTS),
            task_instance.task_id,
            task_instance.map_index,
            ENDED_BY_KEY,
        )


def _keep(acted_on: Any, events: tuple[str, ...], task_id: str, map_index: int, key: str) -> None:
    """Keep the newest of the events as an XCom of a task.

    :param acted_on: the run or the task instance, as an object of Airflow's database.
    """
    from airflow.models.xcom import XComModel
    from sqlalchemy.orm import object_session

    try:
        session = object_session(acted_on)
        if session is None or not has_tag(session, acted_on.dag_id):
            return
        if not _has_task(session, acted_on.dag_id, acted_on.run_id, task_id):
            return
        now = datetime.now(UTC)
        found = find_event(session, events, acted_on.dag_id, acted_on.run_id, now)
        if found is None:
            return
        with session.begin_nested():  # an error here must not cost the person's request
            XComModel.set(
                key,
                describe_event(found),
                dag_id=acted_on.dag_id,
                task_id=task_id,
                run_id=acted_on.run_id,
                map_index=map_index,
                serialize=False,  # a task's own values are stored as they are, too
                session=session,
            )
    except Exception as error:  # the API server and the scheduler must go on after any error
        log.warning("it was not kept who ended %s: %s", task_id, first_line(error))


def find_event(
    session: "Session", events: tuple[str, ...], dag_id: str, run_id: str, now: datetime
) -> "Log | None":
    """Find the newest of these events that gave a state. A request for many runs names no run."""
    from airflow.models.log import Log
    from sqlalchemy import or_, select

    query = (
        select(Log)
        .where(
            Log.event.in_(events),
            or_(Log.dag_id == dag_id, Log.dag_id.is_(None), Log.dag_id == "~"),
            or_(Log.run_id == run_id, Log.run_id.is_(None), Log.run_id == "~"),
            or_(Log.extra.contains('"failed"'), Log.extra.contains('"skipped"')),
            Log.dttm > now - RECENT,
        )
        .order_by(Log.id.desc())
        .limit(1)
    )
    return session.scalars(query).first()


def describe_event(event: "Log") -> str:
    """Return who did it, and when."""
    when = f" at {event.dttm:%Y-%m-%d %H:%M} UTC" if event.dttm else ""
    return f"{event.owner or 'a person'}{when}"


def has_tag(session: "Session", dag_id: str) -> bool:
    """Tell whether a DAG is one of this project's."""
    from airflow.models.dag import DagTag
    from sqlalchemy import select

    query = select(DagTag.dag_id).where(DagTag.dag_id == dag_id, DagTag.name == TAG)
    return session.scalars(query).first() is not None


def _has_task(session: "Session", dag_id: str, run_id: str, task_id: str) -> bool:
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select

    query = select(TaskInstance.task_id).where(
        TaskInstance.dag_id == dag_id,
        TaskInstance.run_id == run_id,
        TaskInstance.task_id == task_id,
    )
    return session.scalars(query).first() is not None
