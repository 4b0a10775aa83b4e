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

from airflow.sdk import DAG

from rl_airflow.dag_builders.forms import destroying_params
from rl_airflow.dag_builders.retrain import DEFAULT_ARGS
from rl_airflow.infrastructure.stack_operators import CloudFormationDestroyEnvironmentOperator

with DAG(
    "destroy_infrastructure",
    description="Delete an environment's stacks; the bucket stays",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    params=destroying_params(),
    default_args=DEFAULT_ARGS,
    tags=["nightshift", "infrastructure"],
    doc_md=__doc__,
) as dag:
    CloudFormationDestroyEnvironmentOperator(task_id="destroy_environment")
