"""Evaluate a version of the registry on as many seeds as you like, in Lambda, and print what it
does.

**How to trigger it.** The form asks for the experiment, a version (empty: the champion), episodes
  and the first seed. Nothing is
promoted, and the seeds are not those of training, selection or gate. The shards stay under
`evaluations/<experiment>/<run>/evaluate/`.

**What a failure means.** The version does not exist, or the evaluator failed with the message
  shown. Clear the task: the episodes
that are there are kept.
"""

from airflow.sdk import DAG

from rl_airflow.dag_builders.forms import evaluating_params
from rl_airflow.dag_builders.retrain import DEFAULT_ARGS
from rl_airflow.evaluation.policy_evaluation_operator import LambdaEvaluatePolicyOperator

with DAG(
    "evaluate_policy",
    description="Evaluate a stored policy on fresh seeds",
    schedule=None,
    catchup=False,
    max_active_runs=4,
    params=evaluating_params(),
    default_args=DEFAULT_ARGS,
    tags=["nightshift", "policies"],
    doc_md=__doc__,
) as dag:
    LambdaEvaluatePolicyOperator(task_id="evaluate")
