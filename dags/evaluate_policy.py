"""Evaluate a version of the registry in Lambda, on as many seeds as you want, and log the result.

**How to trigger it.** The form asks for the experiment, the version (empty: the champion), the
number of episodes and the first seed. Nothing is promoted. The default seeds are never used by
training, selection or gate. The shards are kept under `evaluations/<experiment>/<run>/evaluate/`.

**What a failure means.** The version does not exist, or the evaluator failed with the message that
is shown. Clear the task: episodes that were already evaluated are kept.
"""

from rl_airflow.dag_builders.evaluate_policy import build_evaluation_dag
from rl_airflow.infrastructure.experiment_paths import propose_experiments

dag = build_evaluation_dag(propose_experiments(__file__), doc_md=__doc__)
