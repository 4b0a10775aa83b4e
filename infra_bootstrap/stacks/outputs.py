"""The outputs of the stacks: where the bucket, the roles and the functions of an environment are.

They are read from the stacks, so no file and no environment variable has to name them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import boto3

from infra_bootstrap.clients import Clients, as_clients
from infra_bootstrap.errors import NotDeployedError
from infra_bootstrap.stacks.concerns import Concern, stack_name
from infra_bootstrap.stacks.deployed import DeployedStack, find_stack
from rl_lifecycle.experiment.spec import Artifact, EvaluatorVersion


@dataclass(frozen=True)
class Outputs:
    """What the pipeline needs to know about a deployed environment.

    :param subnet_ids: zone → subnet id.
    :param launch_template_version: the number to pin in a spec.
    :param gang_launch_template_id: the template of trials with several machines. It and its version
        are None if the stack was deployed by an older version.
    :param trainer_wheels: the trainer's wheel set, to put into a spec.
    :param trainer_python: the machine image's Python, such as `3.12`.
    :param evaluator_memory_mib: the memory of the player and of the dispatcher, which waits for it,
        together. None if the stack was deployed by an older version.
    :param gang_launch_template_id: the launch template of trials with several machines; None if the
        stack was deployed by an older version.
    :param evaluator_version: the versions to pin in a spec; None if the stack was deployed by an
        older version.
    """

    environment: str
    account_id: str
    region: str
    bucket: str
    launch_template_id: str
    launch_template_version: str
    image_id: str
    subnet_ids: dict[str, str]
    security_group_id: str
    trainer_instance_profile_arn: str
    trainer_role_arn: str
    launcher_role_arn: str
    promoter_role_arn: str
    reaper_role_arn: str
    evaluator_role_arn: str
    evaluator_function_name: str
    evaluator_alias_arn: str
    topic_arn: str
    trainer_wheels: Artifact
    trainer_python: str
    lambda_runtime: str
    evaluator_memory_mib: float | None = None
    evaluator_version: EvaluatorVersion | None = None
    gang_launch_template_id: str | None = None
    gang_launch_template_version: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the outputs as values that JSON can hold."""
        version = self.evaluator_version
        return asdict(self) | {
            "trainer_wheels": self.trainer_wheels.model_dump(),
            "evaluator_version": version.model_dump() if version else None,
        }


def read_outputs(session_or_clients: boto3.Session | Clients, environment: str) -> Outputs:
    """Read the outputs of all five stacks. This needs only `cloudformation:DescribeStacks`.

    :raises NotDeployedError: if a stack is missing, or was never completed.
    """
    clients = as_clients(session_or_clients)
    stacks = {concern: _get(clients, environment, concern) for concern in Concern}
    identity, network, storage, training, evaluation = (
        stacks[concern].outputs for concern in Concern
    )
    _, _, _, region, account_id, _ = stacks[Concern.IDENTITY].stack_id.split(":", 5)
    return Outputs(
        environment=environment,
        account_id=account_id,
        region=region,
        bucket=storage["BucketName"],
        launch_template_id=training["LaunchTemplateId"],
        launch_template_version=training["LaunchTemplateVersion"],
        image_id=training["ImageId"],
        subnet_ids=_subnets(network),
        security_group_id=network["SecurityGroupId"],
        trainer_instance_profile_arn=identity["TrainerInstanceProfileArn"],
        trainer_role_arn=identity["TrainerRoleArn"],
        launcher_role_arn=identity["LauncherRoleArn"],
        promoter_role_arn=identity["PromoterRoleArn"],
        reaper_role_arn=identity["ReaperRoleArn"],
        evaluator_role_arn=identity["EvaluatorRoleArn"],
        evaluator_function_name=evaluation["EvaluatorFunctionName"],
        evaluator_alias_arn=evaluation["EvaluatorAliasArn"],
        topic_arn=evaluation["TopicArn"],
        trainer_wheels=Artifact(
            key=training["TrainerWheelsKey"], sha256=training["TrainerWheelsSha256"]
        ),
        trainer_python=training["TrainerPython"],
        lambda_runtime=evaluation["LambdaRuntime"],
        evaluator_memory_mib=_memory(evaluation),
        evaluator_version=_version(evaluation),
        gang_launch_template_id=training.get("GangLaunchTemplateId"),
        gang_launch_template_version=training.get("GangLaunchTemplateVersion"),
    )


def _memory(evaluation: Mapping[str, str]) -> float | None:
    player = _number(evaluation.get("EvaluatorMemoryMib"))
    dispatcher = _number(evaluation.get("DispatcherMemoryMib"))
    return None if player is None else player + (dispatcher or 0.0)


def _version(evaluation: Mapping[str, str]) -> EvaluatorVersion | None:
    """Read the versions in service. A stack of an older version does not have these outputs."""
    if "PlayerVersionArn" not in evaluation:
        return None
    return EvaluatorVersion(
        function=evaluation["EvaluatorVersionArn"],
        player=evaluation["PlayerVersionArn"],
        judge=evaluation["JudgeVersionArn"],
        label=evaluation["EvaluatorVersionLabel"],
    )


def _number(value: str | None) -> float | None:
    """Read a number. A stack of an older version does not have it."""
    return float(value) if value else None


def _get(clients: Clients, environment: str, concern: Concern) -> DeployedStack:
    name = stack_name(environment, concern)
    stack = find_stack(clients, name)
    if stack is None or not stack.outputs:
        raise NotDeployedError(name, environment)
    return stack


def _subnets(network: Mapping[str, str]) -> dict[str, str]:
    """Return subnet ids by zone, from outputs such as `eu-west-1a=subnet-1`."""
    return dict(
        value.split("=", 1) for name, value in sorted(network.items()) if name.startswith("Subnet")
    )
