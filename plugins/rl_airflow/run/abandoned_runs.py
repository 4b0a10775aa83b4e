"""Find the runs whose DAG is gone, because a person renamed or deleted the experiment's file.

Airflow's scheduler looks only at runs whose DAG is still in a DAG file. So such a run stays
"running" for ever, no task of it begins any more, and a person cannot end it in the UI, because its
teardown is never scheduled. Source: `DagRun.get_running_dag_runs_to_examine` and
`_set_dag_run_terminal_state` in Airflow 3.3.

Only the scheduler may use Airflow's database, and only a task should call AWS. So each run of
`reap_orphaned_instances` does this in two steps: when the run begins, the scheduler fails the
abandoned runs and writes them into the configuration of the run. The task `close_abandoned_runs`
reads them there, ends their machines and sends the notices.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl
from pydantic import JsonValue

from rl_airflow.errors import first_line
from rl_airflow.infrastructure.audit_log import TAG
from rl_airflow.run.notes import put_note
from rl_lifecycle.records.record import Record

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)

#: The DAG whose runs close the abandoned runs.
CLOSING_DAG_ID = "reap_orphaned_instances"
#: The key of the abandoned runs in the configuration of the closing run.
ABANDONED_KEY = "abandoned_runs"
#: A run is abandoned when its DAG has been gone for this long. A file that comes back earlier
#: changes nothing: a folder may be missing while it is mounted again, and a wrong rename can be
#: undone.
GONE_FOR = timedelta(minutes=30)


class AbandonedRun(Record):
    """A run whose DAG is gone.

    :param plan: the run's plan as JSON; None if the run was not frozen yet.
    """

    dag_id: str
    run_id: str
    plan: dict[str, JsonValue] | None = None

    @property
    def reason(self) -> str:
        """What happened, in one sentence for people."""
        return (
            f"{self.run_id}: the DAG {self.dag_id} is gone (the experiment's file was renamed or "
            "deleted), so this run cannot go on; its checkpoints are kept"
        )


class AbandonedRunListener:
    """Fails abandoned runs in the scheduler when a run of the closing DAG begins."""

    @hookimpl
    def on_dag_run_running(self, dag_run: "DagRun", msg: str) -> None:
        """Fail them and pass them on. An error is only logged."""
        del msg
        if dag_run.dag_id != CLOSING_DAG_ID or (dag_run.conf or {}).get("dry_run"):
            return
        from sqlalchemy.orm import object_session

        session = object_session(dag_run)
        if session is None:
            return
        try:
            closed = fail_abandoned_runs(session, datetime.now(UTC))
        except Exception as error:  # the scheduler must go on after any error
            log.warning("abandoned runs could not be closed: %s", first_line(error))
            return
        conf = dict(dag_run.conf or {})
        # A cleared run closes its runs again, in case the first time failed.
        before = conf.pop(ABANDONED_KEY, []) if dag_run.clear_number else []
        conf.pop(ABANDONED_KEY, None)
        if found := [*before, *(run.model_dump(mode="json") for run in closed)]:
            conf[ABANDONED_KEY] = found
        dag_run.conf = conf


def read_abandoned_runs(conf: Mapping[str, Any] | None) -> list[AbandonedRun]:
    """Read the abandoned runs from the configuration of a run."""
    return [
        AbandonedRun.from_value(one, "the run's configuration")
        for one in (conf or {}).get(ABANDONED_KEY, ())
    ]


def fail_abandoned_runs(session: "Session", now: datetime) -> list[AbandonedRun]:
    """Fail the unfinished runs whose DAG is gone, and their tasks.

    A deferred task is failed, too. Airflow's triggerer then calls `on_kill` of its trigger.
    """
    from airflow.models.dag import DagModel, DagTag
    from airflow.models.dagrun import DagRun
    from airflow.utils.state import DagRunState
    from sqlalchemy import select

    ours = select(DagTag.dag_id).where(DagTag.name == TAG)
    query = (
        select(DagRun)
        .join(DagModel, DagModel.dag_id == DagRun.dag_id)
        .where(
            DagModel.is_stale.is_(True),
            DagModel.last_parsed_time < now - GONE_FOR,
            DagModel.dag_id.in_(ours),
            DagRun.state.in_((DagRunState.RUNNING, DagRunState.QUEUED)),
        )
    )
    runs = list(session.scalars(query))
    closed = [
        AbandonedRun(dag_id=run.dag_id, run_id=run.run_id, plan=_find_plan(session, run))
        for run in runs
    ]
    for run, abandoned in zip(runs, closed, strict=True):
        log.warning("%s", abandoned.reason)
        _fail(session, run)
        put_note(run, abandoned.reason)
    return closed


def _fail(session: "Session", run: "DagRun") -> None:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.state import DagRunState, State, TaskInstanceState
    from sqlalchemy import or_, select

    begun = {
        TaskInstanceState.RUNNING,
        TaskInstanceState.DEFERRED,
        TaskInstanceState.AWAITING_INPUT,
        TaskInstanceState.UP_FOR_RESCHEDULE,
    }
    unfinished = select(TaskInstance).where(
        TaskInstance.dag_id == run.dag_id,
        TaskInstance.run_id == run.run_id,
        or_(TaskInstance.state.is_(None), TaskInstance.state.in_(State.unfinished - {None})),
    )
    for ti in session.scalars(unfinished).all():
        state = TaskInstanceState.FAILED if ti.state in begun else TaskInstanceState.SKIPPED
        ti.set_state(state, session=session)
    run.set_state(DagRunState.FAILED)


def _find_plan(session: "Session", run: "DagRun") -> dict[str, JsonValue] | None:
    from airflow.models.xcom import XComModel

    query = XComModel.get_many(
        run_id=run.run_id,
        key="plan",
        dag_ids=run.dag_id,
        task_ids=["freeze_spec", "freeze_replay"],
        limit=1,
    )
    found = session.scalars(query).first()
    plan = XComModel.deserialize_value(found) if found is not None else None
    return plan if isinstance(plan, dict) else None
