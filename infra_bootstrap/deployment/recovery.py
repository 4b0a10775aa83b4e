"""Find a stack that can be updated, after whatever happened to it before.

- A stack that was never completed is deleted.
- A rollback that stopped half-way is finished.
- A bucket that has lost its stack is imported into a new one, with everything in it.
"""

import json
import time
import uuid
from collections.abc import Mapping

from botocore.exceptions import ClientError

from infra_bootstrap.clients import Clients, code_of, message_of, refused_or_same, role_of_arn
from infra_bootstrap.deployment.deletion import (
    DELETE_WITHIN_S,
    await_deletion,
    delays,
    delete_stack,
    service_role,
    skip_call,
)
from infra_bootstrap.errors import (
    AccessRefusedError,
    BadInputError,
    StackBusyError,
    StackFailedError,
)
from infra_bootstrap.preflight.buckets import BucketOwner, find_owner
from infra_bootstrap.stacks.concerns import Concern, bucket_name, stack_name
from infra_bootstrap.stacks.deployed import DeployedStack, find_stack
from infra_bootstrap.stacks.events import find_blocked, find_failure
from infra_bootstrap.stacks.parameters import plan_parameters
from infra_bootstrap.stacks.settings import DeploymentSettings
from infra_bootstrap.stacks.template_files import template

IMPORT_WITHIN_S = 600.0
#: The logical ids of the bucket and of its policy in templates/storage.yaml.
BUCKET, BUCKET_POLICY = "Bucket", "BucketPolicy"


def is_airflow(clients: Clients, identity_parameters: Mapping[str, str]) -> bool:
    """Tell whether the caller is the role that Airflow's workers run as."""
    return role_of_arn(clients.identity["Arn"]) == identity_parameters.get("AirflowRoleName")


def find_living_stack(
    clients: Clients, settings: DeploymentSettings, concern: Concern
) -> DeployedStack | None:
    """Find a stack that can be updated. A stack that cannot is repaired or deleted first.

    :return: None if there is no stack (any more).
    :raises StackBusyError: if another deployment is changing it.
    :raises StackFailedError: if its rollback cannot be finished.
    :raises AccessRefusedError: if the bucket has no stack, and the caller may not import it.
    """
    name = stack_name(settings.environment, concern)
    stack = find_stack(clients, name)
    if stack is not None and stack.is_busy:
        raise StackBusyError(name, stack.status)
    if stack is not None and stack.is_dead:
        delete_stack(clients, settings, concern)
        role = service_role(clients, settings, concern)
        await_deletion(clients, stack.stack_id, settings.command, role)
        stack = None
    if stack is None:
        return import_bucket(clients, settings) if concern is Concern.STORAGE else None
    if stack.status == "UPDATE_ROLLBACK_FAILED":
        return _continue_rollback(clients, settings, stack, concern)
    return stack


def _continue_rollback(
    clients: Clients, settings: DeploymentSettings, stack: DeployedStack, concern: Concern
) -> DeployedStack | None:
    """Finish a rollback that stopped half-way. AWS allows no other operation before.

    :raises StackFailedError: if it stops again. The message names the resources that block it, and
        the call that skips them. A skipped resource stays as it is, so it may then differ from the
        template, which only a person can judge.
        Source: https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ContinueUpdateRollback.html
    """
    role = service_role(clients, settings, concern)
    clients.cloudformation.continue_update_rollback(StackName=stack.name, **role)
    for delay in delays(DELETE_WITHIN_S):
        found = find_stack(clients, stack.name)
        if found is not None and found.status == "UPDATE_ROLLBACK_FAILED":
            resource, reason = find_failure(clients, stack.name)
            blocked = find_blocked(clients, stack.name, "UPDATE_FAILED")
            call = skip_call(
                "continue-update-rollback", stack.name, role, "--resources-to-skip", blocked
            )
            raise StackFailedError(
                stack.name, found.status, resource, reason, settings.command, call
            )
        if found is None or not found.is_busy:
            return found
        time.sleep(delay)
    raise StackBusyError(stack.name, stack.status)


def import_bucket(clients: Clients, settings: DeploymentSettings) -> DeployedStack | None:
    """Make a storage stack around a bucket of ours that has none, and keep what is in it.

    The import takes the bucket alone, because an import may neither create a resource nor add an
    output or a tag. The deployment that follows is an update, which adds the rest of the template.
    Source: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/import-resources-manually.html

    :return: the stack, or None if there is no such bucket of this account.
    :raises BadInputError: if the bucket does not have the environment's tag.
    :raises AccessRefusedError: if the caller may not import. Airflow's role may not, because a
        stack could take over resources that are not ours.
    """
    bucket = bucket_name(settings.environment, clients.account_id, clients.region)
    name = stack_name(settings.environment, Concern.STORAGE)
    try:
        owner = find_owner(clients, settings.environment, bucket)
        if owner in (BucketOwner.NONE, BucketOwner.OTHER_ACCOUNT):
            return None  # of another account, or not to be seen: AWS says so later
        if owner is not BucketOwner.ENVIRONMENT:
            raise BadInputError(
                f"the bucket {bucket} exists, and does not have the tag of {settings.environment}: "
                "`preflight` says what to do"
            )
        made = _create_import(clients, settings, name, bucket)
        _await_change_set(clients, settings, name, made)
        clients.cloudformation.execute_change_set(StackName=name, ChangeSetName=made)
    except ClientError as error:
        if refused_or_same(error, name) is error:
            raise StackFailedError(
                name, "no import", "", message_of(error), settings.command
            ) from error
        raise AccessRefusedError(
            f"importing the bucket {bucket}, which has no stack",
            f"{message_of(error)}; let an administrator run `{settings.command}`",
        ) from error
    return _await_import(clients, settings, name)


def _create_import(clients: Clients, settings: DeploymentSettings, name: str, bucket: str) -> str:
    whole = template(Concern.STORAGE)
    part = {
        "AWSTemplateFormatVersion": whole["AWSTemplateFormatVersion"],
        "Parameters": whole["Parameters"],
        "Conditions": whole["Conditions"],
        "Resources": {BUCKET: whole["Resources"][BUCKET]},
    }
    values = plan_parameters(clients, settings, Concern.STORAGE, None)
    answer = clients.cloudformation.create_change_set(
        StackName=name,
        ChangeSetName=f"nightshift-{uuid.uuid4().hex[:12]}",
        ChangeSetType="IMPORT",
        TemplateBody=json.dumps(part),
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value} for key, value in sorted(values.items())
        ],
        ResourcesToImport=[
            {
                "ResourceType": "AWS::S3::Bucket",
                "LogicalResourceId": BUCKET,
                "ResourceIdentifier": {"BucketName": bucket},
            }
        ],
        **service_role(clients, settings, Concern.STORAGE),
    )
    return answer["Id"]


def _await_change_set(
    clients: Clients, settings: DeploymentSettings, name: str, change_set: str
) -> None:
    for delay in delays(IMPORT_WITHIN_S):
        answer = clients.cloudformation.describe_change_set(
            StackName=name, ChangeSetName=change_set
        )
        if answer["Status"] == "CREATE_COMPLETE":
            return
        if answer["Status"] == "FAILED":
            raise StackFailedError(
                name, "a failed import", "", answer.get("StatusReason", ""), settings.command
            )
        time.sleep(delay)
    raise StackBusyError(name, "a pending import")


def _await_import(clients: Clients, settings: DeploymentSettings, name: str) -> DeployedStack:
    for delay in delays(IMPORT_WITHIN_S):
        stack = find_stack(clients, name)
        if stack is not None and stack.status == "IMPORT_COMPLETE":
            return stack
        if stack is None or not stack.is_busy:
            resource, reason = find_failure(clients, name)
            status = stack.status if stack else "no stack"
            raise StackFailedError(name, status, resource, reason, settings.command)
        time.sleep(delay)
    raise StackBusyError(name, "IMPORT_IN_PROGRESS")


def make_room_for_policy(clients: Clients, name: str) -> None:
    """Delete the policy of a bucket whose stack has none yet, because the stack was imported.

    CloudFormation does not make a bucket policy where there is one: it answers "The bucket policy
    already exists on bucket". https://github.com/aws-samples/aws-cdk-examples/issues/1022
    """
    resources = clients.cloudformation.describe_stack_resources(StackName=name)["StackResources"]
    physical = {item["LogicalResourceId"]: item.get("PhysicalResourceId") for item in resources}
    bucket = physical.get(BUCKET)
    if BUCKET_POLICY in physical or bucket is None:
        return
    try:
        clients.s3.delete_bucket_policy(Bucket=bucket)
    except ClientError as error:
        if code_of(error) != "NoSuchBucketPolicy":
            raise refused_or_same(error, f"s3:DeleteBucketPolicy {bucket}") from error
