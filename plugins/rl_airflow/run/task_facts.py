"""What the last task of a run knows about the tasks before it: states, problems, who ended them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from airflow.sdk import Context

from rl_airflow.errors import first_line
from rl_airflow.infrastructure.audit_log import ENDED_BY_KEY, RUN_ENDED_BY_KEY, RUN_TASK_ID
from rl_airflow.run.notes import PROBLEM_KEY
from rl_lifecycle.reports.run_outcomes import STEPS, TRIAL_STEPS, RunStep

MOST_CHARACTERS = 1000
#: The states by which a person ends a task.
ENDED = ("failed", "skipped")


def keep_problem(context: Context) -> None:
    """Keep the message of the error that failed a task, for the verdict and the run's note.

    A callback for the failure of a task. A killed process leaves no message.
    """
    error = context.get("exception")
    if isinstance(error, Exception):
        context["ti"].xcom_push(key=PROBLEM_KEY, value=first_line(error)[:MOST_CHARACTERS])


def find_run_ending(context: Context) -> str:
    """Find who marked the run as failed, and when. Empty if no person is known to have done it."""
    return str(context["ti"].xcom_pull(task_ids=RUN_TASK_ID, key=RUN_ENDED_BY_KEY) or "")


def read_steps(
    context: Context, trials: tuple[str, ...], cancelled: Mapping[str, datetime]
) -> tuple[RunStep, ...]:
    """Read the state of each task of the run before the verdict, and the problems of failed ones.

    :param trials: the names of the trials, in the order of their map indexes.
    :param cancelled: trial → when a person ended it while it was awaited, as the report found.
    """
    ti, run = context["ti"], context["dag_run"]
    states = ti.get_task_states(dag_id=run.dag_id, run_ids=[run.run_id]).get(run.run_id, {})
    places: list[tuple[str, int, str | None]] = []
    for task_id in STEPS:
        each = enumerate(trials) if task_id in TRIAL_STEPS and task_id not in states else ()
        places += [(task_id, index, trial) for index, trial in each] or [(task_id, -1, None)]
    return tuple(
        _step(ti, task_id, index, trial, states, cancelled) for task_id, index, trial in places
    )


def _step(
    ti: Any,
    task_id: str,
    index: int,
    trial: str | None,
    states: Mapping[str, Any],
    cancelled: Mapping[str, datetime],
) -> RunStep:
    found = states.get(task_id if index < 0 else f"{task_id}_{index}")
    state = None if found is None else str(getattr(found, "value", found))

    def left(key: str) -> str:
        return str(ti.xcom_pull(task_ids=task_id, key=key, map_indexes=index) or "")

    problem = left(PROBLEM_KEY) if state == "failed" else ""
    by = left(ENDED_BY_KEY) if state in ENDED and not problem else ""
    if state == "failed" and task_id == "await" and not problem and not by:
        when = cancelled.get(trial or "")
        by = f"a person at {when:%Y-%m-%d %H:%M} UTC" if when else ""
    return RunStep(task_id=task_id, trial=trial, state=state, problem=problem, ended_by=by)
