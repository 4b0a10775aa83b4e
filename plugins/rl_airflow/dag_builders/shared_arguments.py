"""Arguments that several DAGs give to their tasks."""

from datetime import timedelta
from typing import Any

#: There are at least two retries, because Airflow itself can make a deferred task fail. The delay
#: is short, because machines cost money during it.
DEFAULT_ARGS: dict[str, Any] = {
    "owner": "nightshift",
    "retries": 2,
    "retry_delay": timedelta(seconds=10),
}
#: The run's plan. It is None if `freeze_spec` failed. The tasks that clean up run even then.
PLAN = "{{ ti.xcom_pull(task_ids='freeze_spec', key='plan') }}"
#: How fast the environment is. A template adds no edge between tasks, unlike `check.output`:
#: `select` must run when a trial failed.
ENVIRONMENT = "{{ ti.xcom_pull(task_ids='check_environment') }}"
