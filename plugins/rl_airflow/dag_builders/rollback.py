"""The DAG that puts an earlier version back into service."""

from collections.abc import Sequence

from airflow.sdk import DAG

from rl_airflow.dag_builders.params import rollback_params
from rl_airflow.dag_builders.shared_arguments import DEFAULT_ARGS, dag_with_form
from rl_airflow.registry.champion_operators import S3RollBackChampionOperator
from rl_airflow.registry.version_choice_operator import AskForVersionOperator


def build_rollback_dag(known: Sequence[str], *, doc_md: str | None = None) -> DAG:
    """Build `rollback_policy`.

    :param known: the experiments that the form proposes.
    :param doc_md: the documentation that the UI shows.
    """
    with dag_with_form(
        "rollback_policy",
        description="Put an earlier version back into service",
        schedule=None,
        catchup=False,
        max_active_runs=16,
        form=rollback_params(known),
        default_args=DEFAULT_ARGS,
        tags=["nightshift", "policies"],
        doc_md=doc_md,
    ) as dag:
        choose = AskForVersionOperator(task_id="choose")
        S3RollBackChampionOperator(task_id="roll_back", choice=choose.output)
    return dag
