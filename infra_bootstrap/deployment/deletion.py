"""Delete one stack, and say which of its resources block an operation and how to leave them out."""

import time
from collections.abc import Callable
from typing import TypedDict

from botocore.exceptions import ClientError

from infra_bootstrap.clients import Clients, refused_or_same
from infra_bootstrap.errors import StackFailedError
from infra_bootstrap.stacks.concerns import Concern, role_name, stack_name
from infra_bootstrap.stacks.deployed import find_stack
from infra_bootstrap.stacks.events import find_blocked, find_failure
from infra_bootstrap.stacks.settings import DeploymentSettings

DELETE_WITHIN_S = 1800.0


class ServiceRole(TypedDict, total=False):
    """The arguments of a request that name CloudFormation's role."""

    RoleARN: str


def service_role(clients: Clients, settings: DeploymentSettings, concern: Concern) -> ServiceRole:
    """Name the deployer role, except for identity, which is the stack that makes this role."""
    if concern is Concern.IDENTITY:
        return {}
    return {"RoleARN": clients.role_arn(role_name(settings.environment, "deployer"))}


def delays(within_s: float) -> list[float]:
    """Return the pauses between polls, seconds: first short, later 5 s. Their sum is `within_s`."""
    pauses = [0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0]
    return pauses + [5.0] * max(0, round((within_s - sum(pauses)) / 5.0))


def delete_stack(clients: Clients, settings: DeploymentSettings, concern: Concern) -> None:
    """Ask CloudFormation to delete a stack. The function returns at once."""
    name = stack_name(settings.environment, concern)
    try:
        clients.cloudformation.delete_stack(
            StackName=name, **service_role(clients, settings, concern)
        )
    except ClientError as error:
        raise refused_or_same(error, f"cloudformation:DeleteStack {name}") from error


def is_deleted(clients: Clients, stack_id: str, command: str, role: ServiceRole) -> bool:
    """Look once at a stack that is being deleted.

    :param command: the command that continues, for messages.
    :raises StackFailedError: if it could not be deleted. The message names the resources that
        block, and the call that leaves them behind, because CloudFormation offers that.
        Source: https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DeleteStack.html
    """
    stack = find_stack(clients, stack_id)
    if stack is None:
        return True
    if stack.status != "DELETE_FAILED":
        return False
    resource, reason = find_failure(clients, stack_id)
    blocked = find_blocked(clients, stack.name, "DELETE_FAILED")
    call = skip_call("delete-stack", stack.name, role, "--retain-resources", blocked)
    raise StackFailedError(stack.name, stack.status, resource, reason, command, call)


def await_deletion(
    clients: Clients,
    stack_id: str,
    command: str,
    role: ServiceRole,
    within_s: float = DELETE_WITHIN_S,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until a stack is deleted.

    :param within_s: the longest wait, seconds.
    :raises StackFailedError: if it could not be deleted, or not in time.
    """
    for delay in delays(within_s):
        if is_deleted(clients, stack_id, command, role):
            return
        sleep(delay)
    raise StackFailedError(
        stack_id, "DELETE_IN_PROGRESS", "", f"it was not deleted after {within_s:g} s.", command
    )


def skip_call(
    operation: str, name: str, role: ServiceRole, option: str, resources: list[str]
) -> str:
    """Return the call of AWS's command line that leaves resources out, or "" without resources.

    >>> skip_call("delete-stack", "s", {}, "--retain-resources", ["Bucket"])
    'aws cloudformation delete-stack --stack-name s --retain-resources Bucket'
    """
    if not resources:
        return ""
    given = ["--role-arn", role["RoleARN"]] if "RoleARN" in role else []
    words = ["aws cloudformation", operation, "--stack-name", name, *given, option, *resources]
    return " ".join(words)
