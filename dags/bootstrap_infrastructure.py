"""Create or update everything that Nightshift needs in an AWS account: five CloudFormation stacks.

**How to trigger it.** *Trigger* opens a form. You can leave every field empty. The first deployment
needs an administrator, because it creates the roles that Airflow works with. The administrator runs
`python -m infra_bootstrap deploy --environment dev` on a laptop, or triggers this DAG with an
administrator's connection `nightshift_deployer`. After that, Airflow's own role can run this DAG.
It is safe to repeat: a stack that needs no change is UNCHANGED. The stacks cost next to nothing
until a machine trains.

**What a failure means.** The task of a stack names the resource that failed first, and AWS's
reason. CloudFormation has rolled the stack back. Correct the cause and clear the task: it continues
from there. If roles must change, `deploy_identity` says so: only an administrator may change roles.
"""

from rl_airflow.dag_builders.bootstrap import build_bootstrap_dag

dag = build_bootstrap_dag(doc_md=__doc__)
