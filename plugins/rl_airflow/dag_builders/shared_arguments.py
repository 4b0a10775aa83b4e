"""Arguments that several DAGs give to their tasks."""

from datetime import timedelta
from typing import Any

from airflow.utils.types import DagRunType

from rl_airflow.run.task_facts import keep_problem

#: There are at least two retries, because Airflow itself can make a deferred task fail. The delay
#: is short, because machines cost money during it.
DEFAULT_ARGS: dict[str, Any] = {
    "owner": "nightshift",
    "retries": 2,
    "retry_delay": timedelta(seconds=10),
    "on_failure_callback": keep_problem,
}
#: How a run of a DAG with a schedule may begin. A backfill is refused, because each of its nights
#: would train against the same champion. The Airflow command for backfills starts all of them side
#: by side, whatever `max_active_runs` says, and then Airflow counts them as nights that have run.
#: Source: `_create_backfill` and `_create_backfill_dag_run` of `airflow.models.backfill` (3.3).
RUN_TYPES = tuple(sorted(one.value for one in DagRunType if one is not DagRunType.BACKFILL_JOB))
#: The run's plan. It is None if `freeze_spec` failed. The tasks that clean up run even then.
PLAN = "{{ ti.xcom_pull(task_ids='freeze_spec', key='plan') }}"
#: How fast the environment is. A template adds no edge between tasks, unlike `check.output`:
#: `select` must run when a trial failed.
ENVIRONMENT = "{{ ti.xcom_pull(task_ids='check_environment') }}"
