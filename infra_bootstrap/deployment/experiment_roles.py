"""Deploy and delete the stacks with the roles of experiments' machines.

Only an administrator can: the deployer role makes no roles.
"""

import time
from collections.abc import Iterator

from botocore.exceptions import ClientError

from infra_bootstrap.clients import Clients, message_of, refused_or_same
from infra_bootstrap.deployment.deletion import await_deletion, delays
from infra_bootstrap.deployment.experiment_stacks import (
    EXPERIMENT,
    check_experiment,
    experiment_stack_name,
    list_experiment_stacks,
    short_name,
)
from infra_bootstrap.deployment.one_stack import NOTHING_TO_DO, StackOutcome
from infra_bootstrap.errors import NotDeployedError, StackFailedError
from infra_bootstrap.stacks.concerns import (
    DEPLOYMENT_TAG,
    Concern,
    stack_name,
)
from infra_bootstrap.stacks.deployed import DeployedStack, find_stack
from infra_bootstrap.stacks.events import find_failure
from infra_bootstrap.stacks.template_files import deployed_template, template, template_body

WITHIN_S = 600.0


def deploy_experiment(
    clients: Clients, environment: str, experiment: str
) -> tuple[str, StackOutcome]:
    """Make or update the role of an experiment's machines. This costs nothing.

    The KMS key and Session Manager are those of the identity stack, so that both roles are alike.

    :return: the stack's name, and what was done to it.
    :raises NotDeployedError: if the environment has no identity stack.
    :raises StackFailedError: if CloudFormation refuses or fails.
    """
    check_experiment(experiment)
    identity = find_stack(clients, stack_name(environment, Concern.IDENTITY))
    if identity is None or identity.is_dead:
        raise NotDeployedError(stack_name(environment, Concern.IDENTITY), environment)
    name = experiment_stack_name(environment, experiment)
    command = deploy_command(environment, experiment)
    before = find_stack(clients, name)
    if before is not None and before.is_dead:
        clients.cloudformation.delete_stack(StackName=name)
        await_deletion(clients, before.stack_id, command, {})
        before = None
    values = {
        "Environment": environment,
        "Experiment": experiment,
        "ShortName": short_name(experiment),
        **{key: identity.parameters[key] for key in ("KmsKeyArn", "EnableSessionManager")},
    }
    if before is not None and _is_same(clients, before, values):
        return name, StackOutcome.UNCHANGED
    if not _begin(clients, name, values, before, command):
        return name, StackOutcome.UNCHANGED
    return name, _await(clients, name, before, command)


def deploy_command(environment: str, experiment: str) -> str:
    """Return the command line that makes the role of an experiment's machines."""
    return f"python -m infra_bootstrap deploy --environment {environment} --experiment {experiment}"


def delete_experiments(clients: Clients, environment: str, command: str) -> Iterator[str]:
    """Delete the roles of all experiments of an environment. Identity cannot go before them.

    :param command: the command that continues the deletion, for messages.
    :return: the name of each stack, after it was deleted.
    """
    for stack in list_experiment_stacks(clients, environment):
        clients.cloudformation.delete_stack(StackName=stack.name)
        await_deletion(clients, stack.stack_id, command, {})
        yield stack.name


def _is_same(clients: Clients, stack: DeployedStack, values: dict[str, str]) -> bool:
    body = clients.cloudformation.get_template(StackName=stack.name, TemplateStage="Original")
    same = deployed_template(body["TemplateBody"]) == template(EXPERIMENT)
    return same and dict(stack.parameters) == values and stack.status.endswith("_COMPLETE")


def _begin(
    clients: Clients,
    name: str,
    values: dict[str, str],
    before: DeployedStack | None,
    command: str,
) -> bool:
    """Start to make or update the stack. :return: False if it needs no change."""
    call = clients.cloudformation.update_stack if before else clients.cloudformation.create_stack
    try:
        call(
            StackName=name,
            TemplateBody=template_body(EXPERIMENT),
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value} for key, value in values.items()
            ],
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Tags=[{"Key": DEPLOYMENT_TAG, "Value": values["Environment"]}],
        )
    except ClientError as error:
        message = message_of(error)
        if any(text in message for text in NOTHING_TO_DO):
            return False
        if refused_or_same(error, name) is not error:
            raise refused_or_same(error, f"cloudformation:{call.__name__} {name}") from error
        raise StackFailedError(name, "not begun", "", message, command) from error
    return True


def _await(clients: Clients, name: str, before: DeployedStack | None, command: str) -> StackOutcome:
    for delay in delays(WITHIN_S):
        stack = find_stack(clients, name)
        begun = stack is not None and (before is None or stack.changed_at != before.changed_at)
        if stack is not None and begun and not stack.status.endswith("_IN_PROGRESS"):
            if stack.status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
                resource, reason = find_failure(clients, stack.stack_id)
                raise StackFailedError(name, stack.status, resource, reason, command)
            return StackOutcome.UPDATED if before else StackOutcome.CREATED
        time.sleep(delay)
    raise StackFailedError(name, "no end", "", f"it was not done after {WITHIN_S:g} s.", command)
