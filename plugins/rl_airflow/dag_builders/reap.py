"""The DAG that ends machines past their deadline, and closes runs whose DAG is gone."""

from airflow.sdk import DAG

from rl_airflow.dag_builders.params import reaping_params
from rl_airflow.dag_builders.shared_arguments import DEFAULT_ARGS, RUN_TYPES, dag_with_form
from rl_airflow.machines.reap_operator import Ec2ReapInstancesOperator
from rl_airflow.trials.operators import Ec2CloseAbandonedRunsOperator


def build_reap_dag(*, doc_md: str | None = None) -> DAG:
    """Build `reap_orphaned_instances`.

    :param doc_md: the documentation that the UI shows.
    """
    with dag_with_form(
        "reap_orphaned_instances",
        description="End machines past their deadline, close runs whose DAG is gone",
        schedule="*/15 * * * *",
        catchup=False,
        allowed_run_types=RUN_TYPES,
        max_active_runs=1,
        form=reaping_params(),
        default_args=DEFAULT_ARGS,
        tags=["nightshift", "care"],
        doc_md=doc_md,
    ) as dag:
        Ec2ReapInstancesOperator(task_id="reap_instances")
        Ec2CloseAbandonedRunsOperator(task_id="close_abandoned_runs")
    return dag
