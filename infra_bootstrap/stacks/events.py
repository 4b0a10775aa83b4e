"""Find why a stack failed: find the first resource that failed. The others were only cancelled."""

from collections.abc import Iterable, Mapping
from typing import Any

from botocore.exceptions import ClientError

from infra_bootstrap.clients import Clients

CANCELLED = ("cancelled", "The following resource(s) failed")


def find_failure(clients: Clients, stack: str) -> tuple[str, str]:
    """Find the first failure of a stack's last operation.

    :return: the resource's logical id (empty for the stack itself), and AWS's reason.
    """
    try:
        events = clients.cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    except ClientError as error:
        return "", f"its events cannot be read ({error})"
    return first_failure(events)


def find_blocked(clients: Clients, stack: str, status: str) -> list[str]:
    """List the logical ids of a stack's resources that have a status, such as `DELETE_FAILED`.

    :return: an empty list also if the caller may not look.
    """
    try:
        found = clients.cloudformation.describe_stack_resources(StackName=stack)["StackResources"]
    except ClientError:
        return []
    return sorted(
        resource["LogicalResourceId"] for resource in found if resource["ResourceStatus"] == status
    )


def first_failure(newest_first: Iterable[Mapping[str, Any]]) -> tuple[str, str]:
    """Find the first failure of the last operation.

    :param newest_first: the stack's events, in the order of DescribeStackEvents.

    >>> def event(name: str, status: str, reason: str = "") -> dict[str, str]:
    ...     return {
    ...         "LogicalResourceId": name, "ResourceStatus": status, "ResourceStatusReason": reason
    ...     }
    >>> first_failure([
    ...     event("s", "ROLLBACK_IN_PROGRESS") | {"ResourceType": "AWS::CloudFormation::Stack"},
    ...     event("B", "CREATE_FAILED", "Resource creation cancelled"),
    ...     event("A", "CREATE_FAILED", "no such zone"),
    ... ])
    ('A', 'no such zone')
    """
    found, stack_reason = ("", ""), ""
    for event in newest_first:
        status, reason = str(event["ResourceStatus"]), str(event.get("ResourceStatusReason", ""))
        is_stack = event.get("ResourceType") == "AWS::CloudFormation::Stack"
        begins = is_stack and status in (
            "CREATE_IN_PROGRESS",
            "UPDATE_IN_PROGRESS",
            "DELETE_IN_PROGRESS",
        )
        if begins and (found[1] or stack_reason):
            break  # older events belong to the operation before
        if is_stack and status == "UPDATE_ROLLBACK_IN_PROGRESS" and found[1]:
            break  # the rollback itself failed, and older events say why it was needed
        if is_stack:
            stack_reason = stack_reason or (
                reason if "FAILED" in status or "ROLLBACK" in status else ""
            )
        elif status.endswith("_FAILED") and not any(word in reason for word in CANCELLED):
            found = str(event["LogicalResourceId"]), reason
    return found if found[1] else ("", stack_reason or "AWS gave no reason.")
