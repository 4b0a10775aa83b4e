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

from airflow.sdk import DAG, chain

from rl_airflow.dag_builders.forms import bootstrap_params
from rl_airflow.dag_builders.retrain import DEFAULT_ARGS
from rl_airflow.infrastructure.stack_operators import (
    CloudFormationDeployStackOperator,
    CloudFormationSummariseOperator,
    S3BuildArtifactsOperator,
    S3UploadArtifactsOperator,
    StsCheckAccessOperator,
)

with DAG(
    "bootstrap_infrastructure",
    description="Make or update the AWS environment",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    params=bootstrap_params(),
    default_args=DEFAULT_ARGS,
    tags=["nightshift", "infrastructure"],
    doc_md=__doc__,
    render_template_as_native_obj=True,
) as dag:
    check = StsCheckAccessOperator(task_id="check_access", retries=0)
    build = S3BuildArtifactsOperator(task_id="build_artifacts")
    upload = S3UploadArtifactsOperator(task_id="upload_artifacts")
    identity, network, storage = (
        CloudFormationDeployStackOperator(task_id=f"deploy_{concern}", concern=concern)
        for concern in ("identity", "network", "storage")
    )
    training, evaluation = (
        CloudFormationDeployStackOperator(
            task_id=f"deploy_{concern}", concern=concern, artifacts=upload.output
        )
        for concern in ("training", "evaluation")
    )
    stacks = [identity, network, storage, training, evaluation]
    summarise = CloudFormationSummariseOperator(
        task_id="summarise", results=[stack.output for stack in stacks]
    )

    chain(check, [identity, build])
    chain(identity, [network, storage])
    chain([build, storage], upload, [training, evaluation])
    chain(network, training)
    chain([training, evaluation], summarise)
