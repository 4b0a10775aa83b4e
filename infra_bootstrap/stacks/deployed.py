"""The deployed stacks, as CloudFormation describes them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from infra_bootstrap.clients import Clients, message_of, refused_or_same

#: A stack in one of these states is empty and takes no change set. It is deleted and made again.
DEAD = frozenset(
    {"ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED", "REVIEW_IN_PROGRESS"}
)


class DeployedStack(NamedTuple):
    """The facts about a deployed stack that a deployment needs.

    :param changed_at: when it was made or last changed, in CloudFormation's words. It shows whether
        a new operation has begun.
    :param protected: whether termination protection is on.
    """

    name: str
    stack_id: str
    status: str
    reason: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]
    changed_at: str
    protected: bool

    @property
    def is_busy(self) -> bool:
        """Whether an operation is changing it."""
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"

    @property
    def is_dead(self) -> bool:
        """Whether it must be deleted before it can be made again."""
        return self.status in DEAD


def find_stack(clients: Clients, name: str) -> DeployedStack | None:
    """Look up a stack by its name or id. The result is None if it does not exist."""
    try:
        found = clients.cloudformation.describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if "does not exist" in message_of(error):
            return None
        raise refused_or_same(error, f"cloudformation:DescribeStacks {name}") from error
    return _read(found[0]) if found and found[0]["StackStatus"] != "DELETE_COMPLETE" else None


def list_stacks(clients: Clients, tags: Mapping[str, str]) -> list[DeployedStack]:
    """List the stacks that have all of these tags, by name.

    :raises AccessRefusedError: if the caller may not list all stacks of the account.
    """
    try:
        pages = list(clients.cloudformation.get_paginator("describe_stacks").paginate())
    except ClientError as error:
        raise refused_or_same(error, "cloudformation:DescribeStacks *") from error
    found = [
        _read(stack)
        for page in pages
        for stack in page["Stacks"]
        if stack["StackStatus"] != "DELETE_COMPLETE"
        and tags.items() <= {tag["Key"]: tag["Value"] for tag in stack.get("Tags", ())}.items()
    ]
    return sorted(found, key=lambda stack: stack.name)


def _read(stack: Mapping[str, Any]) -> DeployedStack:
    return DeployedStack(
        name=stack["StackName"],
        stack_id=stack["StackId"],
        status=stack["StackStatus"],
        reason=stack.get("StackStatusReason", ""),
        parameters={
            item["ParameterKey"]: item.get("ParameterValue", "")
            for item in stack.get("Parameters", ())
        },
        outputs={item["OutputKey"]: item["OutputValue"] for item in stack.get("Outputs", ())},
        changed_at=str(stack.get("LastUpdatedTime") or stack.get("CreationTime") or ""),
        protected=bool(stack.get("EnableTerminationProtection", False)),
    )
