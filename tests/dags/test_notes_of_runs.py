"""What our listeners write into Airflow's database: a run's note, and who ended what by hand."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rl_airflow.infrastructure.audit_log import ENDED_BY_KEY, RUN_ENDED_BY_KEY
from rl_airflow.run.notes import NOTE_KEY, PROBLEM_KEY, RunNoteListener
from tests.dags.scheduled_runs import ScheduledRun

DAG_ID = "retrain_cartpole_ppo"


def keep(run: ScheduledRun, task_id: str, note: str) -> None:
    """Keep a note as the task does."""
    from airflow.models.xcom import XComModel

    place = {"dag_id": DAG_ID, "task_id": task_id, "run_id": run.run.run_id}
    XComModel.set(NOTE_KEY, note, **place, serialize=False, session=run.session)
    run.session.commit()


def left(run: ScheduledRun, task_id: str, key: str, map_index: int = -1) -> Any:
    """Return what a listener left for the last task."""
    from airflow.models.xcom import XComModel

    query = XComModel.get_many(
        run_id=run.run.run_id, key=key, dag_ids=DAG_ID, task_ids=task_id, map_indexes=map_index
    )
    found = run.session.scalars(query).first()
    return found and found.value


@pytest.mark.parametrize(("verdict", "state"), [("success", "success"), ("failed", "failed")])
def test_the_newest_note_of_a_run_is_shown_when_it_ends(verdict: str, state: str) -> None:
    """No task calls Airflow's API for it, and `airflow dags test` ends its runs in the same way."""
    run = ScheduledRun(DAG_ID)
    run.play({}, holds=frozenset({"report"}))
    keep(run, "judge", "KEEP: worse")
    keep(run, "verdict", "KEEP: worse\ncost 0.1000 USD of 2 USD allowed")
    assert run.run.note is None
    run.session.execute(_report_of(run).values(state="success"))
    run.session.commit()
    run.session.expire_all()
    assert run.play({("verdict", -1): verdict}) == state
    run.session.expire_all()
    assert run.run.note == "KEEP: worse\ncost 0.1000 USD of 2 USD allowed"


def test_a_red_run_of_another_dag_shows_the_first_problem_of_its_tasks() -> None:
    """It has no verdict that could name the cause."""
    run = ScheduledRun("reap_orphaned_instances")
    place = {"dag_id": run.run.dag_id, "task_id": "reap_instances", "run_id": run.run.run_id}
    from airflow.models.xcom import XComModel

    XComModel.set(PROBLEM_KEY, "AWS did not answer", **place, serialize=False, session=run.session)
    run.session.commit()
    assert run.play({("reap_instances", -1): "failed"}) == "failed"
    assert run.run.note == "reap_instances failed: AWS did not answer"


def test_a_run_of_dags_test_has_its_note_too() -> None:
    """Airflow gives the listener a run that belongs to no session there."""
    run = ScheduledRun(DAG_ID)
    keep(run, "verdict", "KEEP: worse")
    detached = run.run
    run.session.refresh(detached)
    run.session.expunge(detached)
    RunNoteListener().on_dag_run_success(dag_run=detached, msg="success")
    found = run.session.get(type(detached), detached.id)
    assert found.note == "KEEP: worse"


def _report_of(run: ScheduledRun) -> Any:
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import update

    return update(TaskInstance).where(
        TaskInstance.run_id == run.run.run_id, TaskInstance.task_id == "report"
    )


def act(run: ScheduledRun, event: str, state: str, when: datetime, **which: Any) -> None:
    """Write an act into the audit log, as the API does before it carries out the request."""
    from airflow.models.log import Log

    entry = Log(
        event=event, owner="ada", extra=json.dumps({"state": state}), dag_id=DAG_ID, **which
    )
    entry.run_id = run.run.run_id
    entry.dttm = when
    run.session.add(entry)
    run.session.commit()


def mark_run(run: ScheduledRun) -> None:
    """Mark the run as failed with the API's own code."""
    from airflow.api_fastapi.core_api.datamodels.dag_run import DagRunMutableStates
    from airflow.api_fastapi.core_api.services.public.dag_run import patch_dag_run_state

    patch_dag_run_state(
        dag=run.dag,
        dag_run=run.run,
        state=DagRunMutableStates.FAILED,
        session=run.session,
    )
    run.session.commit()


def mark_trial(run: ScheduledRun, map_index: int) -> None:
    """Mark a trial's `await` as failed with the API's own code."""
    from airflow.api_fastapi.core_api.datamodels.task_instances import BulkTaskInstanceBody
    from airflow.api_fastapi.core_api.services.public.task_instances import (
        _patch_task_instance_state,
    )

    body = BulkTaskInstanceBody(task_id="await", map_index=map_index)
    _patch_task_instance_state(
        task_id="await",
        dag_run_id=run.run.run_id,
        dag=run.dag,
        task_instance_body=body,
        data={"new_state": "failed"},
        session=run.session,
    )
    run.session.commit()


@pytest.fixture
def training() -> ScheduledRun:
    """A run whose trials are awaited."""
    run = ScheduledRun(DAG_ID)
    run.play({}, holds=frozenset({"await"}))
    return run


def test_who_marks_a_run_as_failed_is_kept_for_its_last_task(training: ScheduledRun) -> None:
    """The name and the time come from Airflow's audit log."""
    now = datetime.now(UTC)
    act(training, "patch_dag_run", "failed", now)
    mark_run(training)
    told = f"ada at {now:%Y-%m-%d %H:%M} UTC"
    assert left(training, "freeze_spec", RUN_ENDED_BY_KEY) == told
    assert left(training, "await", ENDED_BY_KEY, 0) == told


def test_who_ends_one_trial_is_kept_for_this_trial_only(training: ScheduledRun) -> None:
    """The other trial goes on."""
    now = datetime.now(UTC)
    act(training, "patch_task_instance", "failed", now, task_id="await")
    mark_trial(training, 1)
    assert left(training, "await", ENDED_BY_KEY, 1) == f"ada at {now:%Y-%m-%d %H:%M} UTC"
    assert left(training, "await", ENDED_BY_KEY, 0) is None
    assert left(training, "freeze_spec", RUN_ENDED_BY_KEY) is None


@pytest.mark.parametrize(
    ("event", "state", "age"),
    [
        ("patch_dag_run", "failed", timedelta(minutes=5)),
        ("patch_dag_run", "queued", timedelta()),
        ("trigger_dag_run", "failed", timedelta()),
    ],
)
def test_another_act_of_a_person_ends_no_run(
    training: ScheduledRun, event: str, state: str, age: timedelta
) -> None:
    """A run that fails by itself was not ended by a person, whatever one did before."""
    act(training, event, state, datetime.now(UTC) - age)
    mark_run(training)
    assert left(training, "freeze_spec", RUN_ENDED_BY_KEY) is None


def test_each_act_is_a_function_of_airflows_api() -> None:
    """Airflow names an event after the function that a person's request calls."""
    from airflow.api_fastapi.core_api.routes.public import dag_run, task_instances

    from rl_airflow.infrastructure.audit_log import RUN_ACTS, TASK_ACTS

    assert {*RUN_ACTS, *TASK_ACTS} <= {*vars(dag_run), *vars(task_instances)}
