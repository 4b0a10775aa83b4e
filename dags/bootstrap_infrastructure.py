"""Make, or bring up to date, everything that Nightshift needs in an AWS account: five
CloudFormation stacks.

**How to trigger it.** *Trigger* opens a form in which everything may be left empty. The first time
  an administrator does it,
because it makes the roles that Airflow then works with: either `python -m infra_bootstrap deploy
--environment dev` from a laptop, or this DAG with an administrator's connection
`nightshift_deployer`. Afterwards Airflow's own role can. It is safe to repeat: a stack that is as
it should be is UNCHANGED. What it makes costs next to nothing until a machine trains.

**What a failure means.** A stack's task names the resource that failed first and AWS's reason; the
  stack has been rolled
back. Correct that and clear the task: it goes on from there. `deploy_identity` says so when roles
must change, which only an administrator may do.
"""

from rl_airflow.dag_builders.bootstrap import build_bootstrap_dag

dag = build_bootstrap_dag(doc_md=__doc__)
