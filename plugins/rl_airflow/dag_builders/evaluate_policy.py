"""The DAG that evaluates a stored policy on fresh seeds."""

from collections.abc import Sequence

from airflow.sdk import DAG

from rl_airflow.dag_builders.params import evaluating_params
from rl_airflow.dag_builders.shared_arguments import DEFAULT_ARGS, dag_with_form
from rl_airflow.evaluation.policy_evaluation_operator import LambdaEvaluatePolicyOperator


def build_evaluation_dag(known: Sequence[str], *, doc_md: str | None = None) -> DAG:
    """Build `evaluate_policy`.

    :param known: the experiments that the form proposes.
    :param doc_md: the documentation that the UI shows.
    """
    with dag_with_form(
        "evaluate_policy",
        description="Evaluate a stored policy on fresh seeds",
        schedule=None,
        catchup=False,
        max_active_runs=4,
        form=evaluating_params(known),
        default_args=DEFAULT_ARGS,
        tags=["nightshift", "policies"],
        doc_md=doc_md,
    ) as dag:
        LambdaEvaluatePolicyOperator(task_id="evaluate")
    return dag
