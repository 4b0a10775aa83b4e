"""A run's note, which Airflow shows in its list of runs: the verdict, the cost, and why it is red.

Airflow offers tasks no call for it. So a task keeps the note as an XCom, and a listener copies it
when the run ends. The listener runs in the process that ends the run: the scheduler, or
`airflow dags test`. Both have the database, so no task needs the address and a password of
Airflow's API.
"""

import logging
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl
from airflow.sdk import Context

from rl_airflow.errors import first_line
from rl_airflow.infrastructure.audit_log import has_tag

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)

#: The XCom key of the note. The newest XCom of a run with this key counts.
NOTE_KEY = "nightshift_note"
#: The XCom key of the error that failed a task. It is the note of a red run without another one.
PROBLEM_KEY = "problem"
#: Airflow's limit on a note.
MOST_CHARACTERS = 1000
#: What stands before a person's own note, which is kept below the run's.
PERSONS = "\n\nnote of a person: "


def keep_note(context: Context, text: str, ending: str = "") -> None:
    """Keep the note of the run.

    :param text: cut if the note would be too long.
    :param ending: the end of the note, which is never cut.
    """
    note = text[: MOST_CHARACTERS - len(ending)] + ending
    context["ti"].xcom_push(key=NOTE_KEY, value=note)


class RunNoteListener:
    """Copies the note that a task kept to the run when the run ends. An error is only logged."""

    @hookimpl
    def on_dag_run_success(self, dag_run: "DagRun", msg: str) -> None:
        """Copy the note of a green run."""
        del msg
        _copy(dag_run, failed=False)

    @hookimpl
    def on_dag_run_failed(self, dag_run: "DagRun", msg: str) -> None:
        """Copy the note of a red run."""
        del msg
        _copy(dag_run, failed=True)


def _copy(dag_run: "DagRun", *, failed: bool) -> None:
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy.orm import object_session

    try:
        if (session := object_session(dag_run)) is not None:
            _copy_in(session, dag_run, failed)
            return
        # In `airflow dags test` the run belongs to no session at its end.
        with create_session(scoped=False) as own:
            if (found := own.get(DagRun, dag_run.id)) is not None:
                _copy_in(own, found, failed)
    except Exception as error:  # the scheduler must go on after any error
        log.warning("the note of %s was not written: %s", dag_run.run_id, first_line(error))


def _copy_in(session: "Session", dag_run: "DagRun", failed: bool) -> None:
    if text := _find_note(session, dag_run, failed):
        put_note(dag_run, text)


def _find_note(session: "Session", dag_run: "DagRun", failed: bool) -> str:
    """Find the newest note that a task kept; else, in a red run, the first problem of a task."""
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    def find(key: str, order: Any) -> XComModel | None:
        query = select(XComModel).where(
            XComModel.dag_id == dag_run.dag_id,
            XComModel.run_id == dag_run.run_id,
            XComModel.key == key,
        )
        return session.scalars(query.order_by(order).limit(1)).first()

    if found := find(NOTE_KEY, XComModel.timestamp.desc()):
        return str(XComModel.deserialize_value(found))
    if (
        failed
        and has_tag(session, dag_run.dag_id)
        and (found := find(PROBLEM_KEY, XComModel.timestamp))
    ):
        return f"{found.task_id} failed: {XComModel.deserialize_value(found)}"
    return ""


def put_note(dag_run: "DagRun", text: str) -> None:
    """Give a run its note. A person's own note stays below it, as far as there is space."""
    before = dag_run.dag_run_note
    persons = ""
    if before is not None and before.user_id:
        content = before.content or ""
        persons = PERSONS + (content.partition(PERSONS)[2] or content)
    dag_run.note = (text + persons)[:MOST_CHARACTERS]
