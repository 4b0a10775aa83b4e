"""The DAG that deletes an environment's stacks."""

from airflow.sdk import DAG

from rl_airflow.dag_builders.params import destroying_params
from rl_airflow.dag_builders.shared_arguments import DEFAULT_ARGS, dag_with_form
from rl_airflow.infrastructure.stack_operators import CloudFormationDestroyEnvironmentOperator


def build_destroy_dag(*, doc_md: str | None = None) -> DAG:
    """Build `destroy_infrastructure`.

    :param doc_md: the documentation that the UI shows.
    """
    with dag_with_form(
        "destroy_infrastructure",
        # Airflow lists DAGs by this name, so the DAG that deletes stands last.
        dag_display_name="teardown: destroy_infrastructure",
        description="Delete an environment's stacks; the bucket stays",
        schedule=None,
        catchup=False,
        max_active_runs=1,
        form=destroying_params(),
        default_args=DEFAULT_ARGS,
        tags=["nightshift", "infrastructure"],
        doc_md=doc_md,
    ) as dag:
        CloudFormationDestroyEnvironmentOperator(task_id="destroy_environment")
    return dag
