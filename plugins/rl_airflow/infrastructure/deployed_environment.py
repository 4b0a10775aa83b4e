"""The resources of a deployed environment, read from its stacks' outputs as the Airflow worker."""

from collections.abc import Sequence
from typing import NamedTuple

from rl_airflow.errors import EnvironmentNotReadyError
from rl_airflow.infrastructure.patience import repeat
from rl_airflow.infrastructure.sessions import RoleSession
from rl_lifecycle.experiment.spec import Artifact, EvaluatorVersion


class DeployedEnvironment(NamedTuple):
    """The resources of a bootstrapped environment that a run needs."""

    environment: str
    bucket: str
    launch_template_id: str
    launch_template_version: str
    subnet_ids: dict[str, str]
    evaluator: str
    image_id: str | None
    trainer_wheels: Artifact | None
    topic_arn: str | None
    evaluator_memory_mib: float | None = None
    instance_profile_arn: str | None = None
    evaluator_version: EvaluatorVersion | None = None
    #: `id:version` for trials with several machines. None if an older version deployed the stack.
    gang_launch_template: str | None = None

    @property
    def launch_template(self) -> str:
        """The launch template as `id:version`."""
        return f"{self.launch_template_id}:{self.launch_template_version}"


def find_environment(
    environment: str, region_name: str | None = None, *, experiments: Sequence[str] = ()
) -> DeployedEnvironment:
    """Read the outputs of an environment.

    :param experiments: the first of them that has an instance profile of its own gives it.
    :raises EnvironmentNotReadyError: if a stack or an output is missing.
    """
    from infra_bootstrap.clients import Clients
    from infra_bootstrap.deployment.experiment_stacks import find_trainer_profile
    from infra_bootstrap.errors import BootstrapError
    from infra_bootstrap.stacks.outputs import read_outputs

    clients = Clients(RoleSession(None, environment, region_name=region_name).session)

    def own_profile(name: str) -> str | None:
        return repeat(lambda: find_trainer_profile(clients, environment, name), "cloudformation")

    try:
        outputs = repeat(lambda: read_outputs(clients, environment), "cloudformation")
        profile = next(filter(None, map(own_profile, experiments)), None)
    except BootstrapError as error:
        raise EnvironmentNotReadyError(environment, str(error)) from error
    except KeyError as error:
        problem = f"its stacks lack the output {error}: they are incomplete, or of another version"
        raise EnvironmentNotReadyError(environment, problem) from error
    if not outputs.subnet_ids:
        raise EnvironmentNotReadyError(environment, "it has no subnet")
    return DeployedEnvironment(
        environment=environment,
        bucket=outputs.bucket,
        launch_template_id=outputs.launch_template_id,
        launch_template_version=outputs.launch_template_version,
        subnet_ids=dict(outputs.subnet_ids),
        evaluator=outputs.evaluator_alias_arn,
        image_id=outputs.image_id,
        trainer_wheels=outputs.trainer_wheels,
        topic_arn=outputs.topic_arn,
        evaluator_memory_mib=outputs.evaluator_memory_mib,
        instance_profile_arn=profile,
        evaluator_version=outputs.evaluator_version,
        gang_launch_template=f"{outputs.gang_launch_template_id}:"
        f"{outputs.gang_launch_template_version}"
        if outputs.gang_launch_template_id
        else None,
    )
