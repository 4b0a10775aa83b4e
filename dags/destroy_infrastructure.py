"""Delete an environment's stacks, and prove that nothing of them is left. The bucket stays.

**How to trigger it.** The form wants the environment's exact name twice. Airflow's own role deletes
  network, training and
evaluation, which is what could cost money, and leaves roles and bucket: an administrator removes
those from a shell with `python -m infra_bootstrap destroy --environment NAME --confirm NAME` (and
`--delete-bucket`, if what was trained, judged and promoted may go, too).

**What a failure means.** Machines still run (end their runs, or wait), the name was not repeated
  exactly, or something is left
over, which the message names. Clear the task to go on.
"""

from rl_airflow.dag_builders.destroy import build_destroy_dag

dag = build_destroy_dag(doc_md=__doc__)
