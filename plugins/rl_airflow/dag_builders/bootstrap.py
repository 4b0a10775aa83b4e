"""The DAG that makes or updates the AWS environment."""

from airflow.sdk import DAG, chain

from rl_airflow.dag_builders.params import bootstrap_params
from rl_airflow.dag_builders.shared_arguments import DEFAULT_ARGS, dag_with_form
from rl_airflow.infrastructure.stack_operators import (
    CloudFormationDeployStackOperator,
    CloudFormationSummariseOperator,
    S3BuildArtifactsOperator,
    S3UploadArtifactsOperator,
    StsCheckAccessOperator,
)


def build_bootstrap_dag(*, doc_md: str | None = None) -> DAG:
    """Build `bootstrap_infrastructure`.

    :param doc_md: the documentation that the UI shows.
    """
    with dag_with_form(
        "bootstrap_infrastructure",
        description="Make or update the AWS environment",
        schedule=None,
        catchup=False,
        max_active_runs=1,
        form=bootstrap_params(),
        default_args=DEFAULT_ARGS,
        tags=["nightshift", "infrastructure"],
        doc_md=doc_md,
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
    return dag
