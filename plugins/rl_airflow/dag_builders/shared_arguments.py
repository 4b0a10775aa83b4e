"""Arguments that several DAGs give to their tasks."""

from datetime import timedelta
from typing import Any

#: At least two retries, because Airflow can fail a deferred task for reasons of its own. A short
#: delay, because machines cost money meanwhile.
DEFAULT_ARGS: dict[str, Any] = {
    "owner": "nightshift",
    "retries": 2,
    "retry_delay": timedelta(seconds=10),
}
#: The run's plan. It is None when `freeze_spec` failed; the tasks that clean up run even then.
PLAN = "{{ ti.xcom_pull(task_ids='freeze_spec', key='plan') }}"
#: How fast the environment is. A template adds no edge between tasks, unlike `check.output`:
#: `select` must run when a trial failed.
ENVIRONMENT = "{{ ti.xcom_pull(task_ids='check_environment') }}"
