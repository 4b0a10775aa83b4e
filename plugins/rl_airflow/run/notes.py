"""A run's note, which Airflow shows in its list of runs: the verdict, the cost, and why it is red.

Airflow offers tasks no call for it. So a task keeps the note as an XCom, and a listener copies it
when the run ends. The listener runs in the process that ends the run: the scheduler, or
`airflow dags test`. Both have the database, so no task needs the address and a password of
Airflow's API.
"""

import logging
from typing import TYPE_CHECKING

from airflow.listeners import hookimpl
from airflow.sdk import Context

from rl_airflow.errors import first_line

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

log = logging.getLogger(__name__)

#: The XCom key of the note. The newest XCom of a run with this key counts.
NOTE_KEY = "nightshift_note"
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
        _copy(dag_run)

    @hookimpl
    def on_dag_run_failed(self, dag_run: "DagRun", msg: str) -> None:
        """Copy the note of a red run."""
        del msg
        _copy(dag_run)


def _copy(dag_run: "DagRun") -> None:
    from airflow.models.xcom import XComModel
    from sqlalchemy import select
    from sqlalchemy.orm import object_session

    try:
        session = object_session(dag_run)
        if session is None:
            return
        query = (
            select(XComModel)
            .where(
                XComModel.dag_id == dag_run.dag_id,
                XComModel.run_id == dag_run.run_id,
                XComModel.key == NOTE_KEY,
            )
            .order_by(XComModel.timestamp.desc())
            .limit(1)
        )
        found = session.scalars(query).first()
        if found is not None:
            put_note(dag_run, str(XComModel.deserialize_value(found)))
    except Exception as error:  # the scheduler must go on after any error
        log.warning("the note of %s was not written: %s", dag_run.run_id, first_line(error))


def put_note(dag_run: "DagRun", text: str) -> None:
    """Give a run its note. A person's own note stays below it, as far as there is space."""
    before = dag_run.dag_run_note
    persons = ""
    if before is not None and before.user_id:
        content = before.content or ""
        persons = PERSONS + (content.partition(PERSONS)[2] or content)
    dag_run.note = (text + persons)[:MOST_CHARACTERS]
