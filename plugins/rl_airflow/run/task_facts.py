"""What the last task of a run knows about the tasks before it: states, problems, who ended them."""

import json
import logging
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from airflow.sdk import Context

from rl_airflow.errors import first_line
from rl_airflow.infrastructure.airflow_api import API_ERRORS, AirflowApi, NoApiError, events_of_run
from rl_lifecycle.reports.run_outcomes import STEPS, TRIAL_STEPS, RunStep

log = logging.getLogger(__name__)

#: The XCom key of the error that failed a task.
PROBLEM_KEY = "problem"
MOST_CHARACTERS = 1000
#: The states that a person can give to a run or a task by hand.
BY_HAND = ("failed", "success", "skipped")


def keep_problem(context: Context) -> None:
    """Keep the message of the error that failed a task, so that the verdict can name it.

    A callback for the failure of a task. A killed process leaves no message.
    """
    error = context.get("exception")
    if isinstance(error, Exception):
        context["ti"].xcom_push(key=PROBLEM_KEY, value=first_line(error)[:MOST_CHARACTERS])


class Endings(NamedTuple):
    """Who ended a run and its tasks by hand, and when.

    :param run: empty if no person is known to have ended the run.
    :param tasks: (task id, map index) → who ended it. The map index is -1 for all of a task.
    """

    run: str = ""
    tasks: Mapping[tuple[str, int], str] = {}

    def of(self, task_id: str, map_index: int) -> str:
        """Who ended a task; empty if no person is known to have ended it."""
        return self.tasks.get((task_id, map_index)) or self.tasks.get((task_id, -1), "")


def find_endings(context: Context, cancelled: Mapping[tuple[str, int], datetime]) -> Endings:
    """Find who ended the run or its tasks by hand since the last clear.

    Airflow's audit log names the person, and only the REST API shows the log.

    :param cancelled: (task id, map index) → when a person ended it, as the report found.
    """
    known = {place: f"a person at {when:%Y-%m-%d %H:%M} UTC" for place, when in cancelled.items()}
    found = _read_audit_log(context)
    return found._replace(tasks=known | dict(found.tasks))


def _read_audit_log(context: Context) -> Endings:
    """Read the audit log. Without the API, or after an error, no name is known."""
    try:
        return read_endings(events_of_run(AirflowApi(), context))
    except NoApiError as error:
        log.info("%s, so it is not known who ended a task or the run", error)
    except API_ERRORS as error:
        log.warning("Airflow's audit log could not be read: %s", first_line(error))
    return Endings()


def read_endings(events: Iterable[Mapping[str, Any]]) -> Endings:
    """Find who ended a run and its tasks.

    :param events: the events of the audit log, newest first. Events before a clear do not count.
    """
    run, tasks = "", dict[tuple[str, int], str]()
    for event in events:
        if "clear" in event["event"]:
            break
        extra = _extra(event)
        by = f"{event.get('owner') or 'a person'} at {_minute(event['when'])}"
        if event["event"] == "patch_dag_run" and extra.get("state") in BY_HAND:
            run = run or by
        elif event.get("task_id") and extra.get("new_state") in BY_HAND:
            map_index = extra.get("map_index")
            tasks.setdefault((event["task_id"], -1 if map_index is None else int(map_index)), by)
    return Endings(run, tasks)


def read_steps(context: Context, trials: tuple[str, ...], endings: Endings) -> tuple[RunStep, ...]:
    """Read the state of each task of the run before the verdict, and the problems of failed ones.

    :param trials: the names of the trials, in the order of their map indexes.
    """
    ti, run = context["ti"], context["dag_run"]
    states = ti.get_task_states(dag_id=run.dag_id, run_ids=[run.run_id]).get(run.run_id, {})
    places: list[tuple[str, int, str | None]] = []
    for task_id in STEPS:
        each = enumerate(trials) if task_id in TRIAL_STEPS and task_id not in states else ()
        places += [(task_id, index, trial) for index, trial in each] or [(task_id, -1, None)]
    return tuple(
        _step(ti, task_id, index, trial, states, endings) for task_id, index, trial in places
    )


def _step(
    ti: Any,
    task_id: str,
    index: int,
    trial: str | None,
    states: Mapping[str, Any],
    endings: Endings,
) -> RunStep:
    state = states.get(task_id if index < 0 else f"{task_id}_{index}")
    failed = state == "failed"
    problem = ti.xcom_pull(task_ids=task_id, key=PROBLEM_KEY, map_indexes=index) if failed else ""
    return RunStep(
        task_id=task_id,
        trial=trial,
        state=None if state is None else str(getattr(state, "value", state)),
        problem=problem or "",
        ended_by=endings.of(task_id, index) if not problem and state in BY_HAND else "",
    )


def _extra(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an event, which Airflow stores as JSON."""
    try:
        extra = json.loads(event.get("extra") or "{}")
    except ValueError:
        return {}
    return extra if isinstance(extra, dict) else {}


def _minute(when: str) -> str:
    return f"{datetime.fromisoformat(when):%Y-%m-%d %H:%M} UTC"
