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

from rl_airflow.dag_builders.evaluate_policy import build_evaluation_dag

dag = build_evaluation_dag(doc_md=__doc__)
