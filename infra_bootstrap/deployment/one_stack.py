"""Deploy one stack in three steps. An Airflow task can leave its worker between them.

    prepared = prepare(clients, settings, concern, artifacts)     # a change set, or nothing to do
    started = start(clients, prepared)                            # CloudFormation begins
    while (progress := poll(clients, started)).outcome is None: … # wait as you like

Each step can be repeated. A change set that was not executed is replaced. A stack that an earlier
try has finished is UNCHANGED. A failed deployment rolls back, and the same command continues.
"""

import time
import uuid
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from infra_bootstrap.artifacts.sets import ArtifactSet
from infra_bootstrap.clients import Clients, message_of, refused_or_same
from infra_bootstrap.deployment import recovery
from infra_bootstrap.deployment.deletion import delays, service_role
from infra_bootstrap.errors import IdentityChangedError, StackFailedError
from infra_bootstrap.stacks.changes import Change, read_changes
from infra_bootstrap.stacks.concerns import (
    DEPLOYMENT_TAG,
    PROTECTED,
    Concern,
    stack_name,
)
from infra_bootstrap.stacks.deployed import DeployedStack, find_stack
from infra_bootstrap.stacks.events import find_failure
from infra_bootstrap.stacks.images import find_image
from infra_bootstrap.stacks.parameters import plan_parameters
from infra_bootstrap.stacks.settings import DeploymentSettings
from infra_bootstrap.stacks.template_files import deployed_template, template, template_body
from rl_lifecycle.records.record import Record

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import (
        CreateChangeSetInputTypeDef,
        DescribeChangeSetOutputTypeDef,
        ParameterTypeDef,
    )

#: A change set without changes fails with one of these messages.
#: https://github.com/aws/aws-cli/blob/develop/awscli/customizations/cloudformation/deployer.py
NOTHING_TO_DO = ("didn't contain changes", "No updates are to be performed")
PREPARE_WITHIN_S = 300.0


class StackOutcome(StrEnum):
    """What an operation did to a stack."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    DELETED = "deleted"


class Prepared(Record):
    """A stack whose deployment can start, or that has nothing to do. A task passes it on as JSON.

    :param change_set: the change set's ARN, or None if there is nothing to do.
    :param changed_at: when the stack was last changed, before this operation.
    :param command: the command that continues the deployment, for messages.
    """

    environment: str
    concern: Concern
    stack_name: str
    change_set: str | None = None
    is_new: bool = False
    changed_at: str = ""
    changes: tuple[Change, ...] = ()
    command: str = ""


class StackProgress(Record):
    """How far a stack is. `outcome` is None while CloudFormation works."""

    stack_name: str
    status: str
    outcome: StackOutcome | None = None


def prepare(
    clients: Clients,
    settings: DeploymentSettings,
    concern: Concern,
    artifacts: ArtifactSet | None = None,
) -> Prepared:
    """Compare a stack with its template, and make a change set if they differ. This is free.

    A stack that was never completed (ROLLBACK_COMPLETE, REVIEW_IN_PROGRESS) is deleted first, and a
    bucket without its stack gets a stack again. If the template's text, the parameters and the
    image are the same, no change set is made, because it would be empty.

    :param artifacts: what was built and uploaded. Training and evaluation need it.
    :raises IdentityChangedError: if identity differs, and the caller may not change it.
    :raises StackBusyError: if another deployment is changing the stack.
    :raises StackFailedError: if CloudFormation refuses the change set.
    """
    name = stack_name(settings.environment, concern)
    stack = recovery.find_living_stack(clients, settings, concern)
    values = plan_parameters(
        clients, settings, concern, stack.parameters if stack else None, artifacts
    )
    unchanged = Prepared(
        environment=settings.environment, concern=concern, stack_name=name, command=settings.command
    )
    if stack is not None:
        differences = find_differences(clients, concern, stack, values)
        if not differences:
            return unchanged
        if concern is Concern.IDENTITY and recovery.is_airflow(clients, stack.parameters):
            raise IdentityChangedError(name, differences, settings.command)
    answer = create_change_set(
        clients, settings, concern, values, stack.parameters if stack else None
    )
    if answer is None:
        return unchanged
    return Prepared(
        environment=settings.environment,
        concern=concern,
        stack_name=name,
        change_set=answer["ChangeSetId"],
        is_new=stack is None,
        changed_at=stack.changed_at if stack else "",
        changes=read_changes(answer),
        command=settings.command,
    )


def start(clients: Clients, prepared: Prepared) -> Prepared:
    """Start to execute a change set, and return at once. New resources may cost money."""
    if prepared.change_set is not None:
        if prepared.concern is Concern.STORAGE and not prepared.is_new:
            recovery.make_room_for_policy(clients, prepared.stack_name)
        try:
            clients.cloudformation.execute_change_set(
                ChangeSetName=prepared.change_set, StackName=prepared.stack_name
            )
        except ClientError as error:
            raise refused_or_same(
                error, f"cloudformation:ExecuteChangeSet {prepared.stack_name}"
            ) from error
    return prepared


def poll(clients: Clients, prepared: Prepared) -> StackProgress:
    """Look once at a stack that was started.

    :raises StackFailedError: if it failed. It names the first resource that failed, and AWS's
        reason.
    """
    if prepared.change_set is None:
        return StackProgress(
            stack_name=prepared.stack_name, status="", outcome=StackOutcome.UNCHANGED
        )
    stack = find_stack(clients, prepared.stack_name)
    status = stack.status if stack else "DELETE_COMPLETE"
    not_begun = (
        stack is not None and not prepared.is_new and stack.changed_at == prepared.changed_at
    )
    if status.endswith("_IN_PROGRESS") or not_begun:
        return StackProgress(stack_name=prepared.stack_name, status=status)
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        resource, reason = find_failure(clients, stack.stack_id if stack else prepared.stack_name)
        raise StackFailedError(prepared.stack_name, status, resource, reason, prepared.command)
    return StackProgress(
        stack_name=prepared.stack_name,
        status=status,
        outcome=StackOutcome.CREATED if prepared.is_new else StackOutcome.UPDATED,
    )


def protect(clients: Clients, prepared: Prepared) -> bool:
    """Turn termination protection on, for the stacks that need it.

    :return: whether it is on. Airflow's role may not turn it on.
    """
    if prepared.concern not in PROTECTED:
        return False
    stack = find_stack(clients, prepared.stack_name)
    if stack is None or stack.protected:
        return stack is not None
    try:
        clients.cloudformation.update_termination_protection(
            StackName=prepared.stack_name, EnableTerminationProtection=True
        )
    except ClientError:
        return False
    return True


def find_differences(
    clients: Clients, concern: Concern, stack: DeployedStack, values: Mapping[str, str]
) -> list[str]:
    """Compare a deployed stack with its template, its planned parameters and the newest image.

    :return: a text that describes the differences. It is empty if a change set would be empty.
    """
    deployed = clients.cloudformation.get_template(StackName=stack.name, TemplateStage="Original")[
        "TemplateBody"
    ]
    differences = [] if deployed_template(deployed) == template(concern) else ["its template"]
    differences += [
        f"{name} from {stack.parameters.get(name)!r} to {value!r}"
        for name, value in sorted(values.items())
        if stack.parameters.get(name) != value
    ]
    if concern is Concern.TRAINING and find_image(
        clients, values.get("ImageId")
    ).image_id != stack.outputs.get("ImageId"):
        differences.append("its machine image")
    return differences


def create_change_set(
    clients: Clients,
    settings: DeploymentSettings,
    concern: Concern,
    values: Mapping[str, str],
    deployed: Mapping[str, str] | None,
) -> "DescribeChangeSetOutputTypeDef | None":
    """Make a change set, and wait until it is ready.

    If a parameter names an SSM parameter, CloudFormation shows the resolved value and not that
    name. So an unchanged value is sent as "use the previous value".

    :param deployed: the stack's parameters now, or None if the stack is new.
    :return: the change set's description, or None if the change set is empty.
    :raises StackFailedError: if CloudFormation refuses it.
    """
    name = stack_name(settings.environment, concern)
    request: CreateChangeSetInputTypeDef = {
        "StackName": name,
        "ChangeSetName": f"nightshift-{uuid.uuid4().hex[:12]}",
        "ChangeSetType": "CREATE" if deployed is None else "UPDATE",
        "TemplateBody": template_body(concern),
        "Parameters": [
            _parameter(key, value, deployed or {}) for key, value in sorted(values.items())
        ],
        "Capabilities": ["CAPABILITY_NAMED_IAM"] if concern is Concern.IDENTITY else [],
        "Tags": [{"Key": DEPLOYMENT_TAG, "Value": settings.environment}],
    }
    role = service_role(clients, settings, concern)
    if "RoleARN" in role:
        request["RoleARN"] = role["RoleARN"]
    try:
        made = clients.cloudformation.create_change_set(**request)["Id"]
    except ClientError as error:
        if refused_or_same(error, name) is not error:
            raise refused_or_same(error, f"cloudformation:CreateChangeSet {name}") from error
        raise StackFailedError(
            name, "no change set", "", message_of(error), settings.command
        ) from error
    answer = _await_change_set(clients, name, made, settings.command)
    if answer["Status"] == "FAILED":
        clients.cloudformation.delete_change_set(StackName=name, ChangeSetName=made)
        if any(text in answer.get("StatusReason", "") for text in NOTHING_TO_DO):
            return None
        raise StackFailedError(
            name, "a failed change set", "", answer.get("StatusReason", ""), settings.command
        )
    return answer


def _parameter(key: str, value: str, deployed: Mapping[str, str]) -> "ParameterTypeDef":
    if deployed.get(key) == value:
        return {"ParameterKey": key, "UsePreviousValue": True}
    return {"ParameterKey": key, "ParameterValue": value}


def _await_change_set(
    clients: Clients, name: str, change_set: str, command: str
) -> "DescribeChangeSetOutputTypeDef":
    for delay in delays(PREPARE_WITHIN_S):
        answer = clients.cloudformation.describe_change_set(
            StackName=name, ChangeSetName=change_set
        )
        if answer["Status"] in ("CREATE_COMPLETE", "FAILED"):
            return answer
        time.sleep(delay)
    raise StackFailedError(
        name, "a pending change set", "", f"it was not ready after {PREPARE_WITHIN_S:g} s.", command
    )
