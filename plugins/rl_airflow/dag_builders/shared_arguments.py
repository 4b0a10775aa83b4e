"""Arguments that several DAGs give to their tasks."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param
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


@contextmanager
def dag_with_form(dag_id: str, *, form: dict[str, Param], **arguments: Any) -> Iterator[DAG]:
    """Make a DAG whose tasks are added inside the `with`, and give it its form at the end.

    Airflow copies the params that a DAG has at that moment into each new task, checks the copies
    again several times when it serializes the task, and stores them with each task. That is most of
    the time that a DAG file needs. A task finds the DAG's params without a copy.
    Source: `get_merged_defaults` in airflow/sdk/bases/operator.py, `process_params` in
    airflow/sdk/definitions/param.py.

    :param form: the params of the DAG.
    :param arguments: the other arguments of :class:`DAG`.
    """
    with DAG(dag_id, **arguments) as dag:
        yield dag
    dag.params = form  # type: ignore[assignment]  # its converter takes a mapping
