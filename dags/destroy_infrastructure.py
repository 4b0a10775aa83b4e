"""Delete an environment's stacks, and prove that none of their resources is left. The bucket stays.

**How to trigger it.** Type the exact name of the environment twice into the form. Airflow's own
role deletes network, training and evaluation: only these can cost money. It keeps the roles and the
bucket. An administrator deletes those from a shell with `python -m infra_bootstrap destroy
--environment NAME --confirm NAME`. With `--delete-bucket`, all trained, judged and promoted
policies are deleted too.

**What a failure means.** Machines are still running (end their runs, or wait), the two names
differ, or resources are left over. The message names them. Clear the task to continue.
"""

from rl_airflow.dag_builders.destroy import build_destroy_dag

dag = build_destroy_dag(doc_md=__doc__)
