"""Find drift: what was changed by hand since it was deployed.

There are two ways to find drift. CloudFormation's own detection covers most properties. It does not
see a policy that was added to a role, or a newer version of the launch template. So everything that
matters for security is also read from its own service. It is compared with the template, with this
account's values filled in. This is done for the roles with all their policies, the bucket's policy
and settings, the security group's rules, the endpoint's policy, the launch template's versions and
the function's alias.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from infra_bootstrap.clients import Clients, code_of
from infra_bootstrap.deployment.deletion import delays
from infra_bootstrap.deployment.experiment_stacks import EXPERIMENT, list_experiment_stacks
from infra_bootstrap.errors import NotDeployedError
from infra_bootstrap.stacks.concerns import Concern, stack_name
from infra_bootstrap.stacks.deployed import DeployedStack, find_stack
from infra_bootstrap.stacks.resolving import Stage, canonical
from infra_bootstrap.stacks.template_files import resources_made
from rl_lifecycle.records.record import Record

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import DescribeStackResourceDriftsInputTypeDef

DETECT_WITHIN_S = 300.0
NOT_IN_STACK = "it is not in the stack: deploy this version of the project"


class Drift(Record):
    """One difference between a deployed resource and its template."""

    stack_name: str
    resource: str
    what: str


def find_drift(clients: Clients, environment: str, only: Concern | None = None) -> list[Drift]:
    """Compare the deployed resources with the templates. This changes nothing.

    :raises NotDeployedError: if a stack does not exist.
    """
    found: list[Drift] = []
    exports = {
        item["Name"]: item["Value"]
        for page in clients.cloudformation.get_paginator("list_exports").paginate()
        for item in page["Exports"]
    }
    names = {stack_name(environment, one): str(one) for one in Concern if only in (None, one)}
    if only in (None, Concern.IDENTITY):
        stacks = list_experiment_stacks(clients, environment)
        names |= {stack.name: EXPERIMENT for stack in stacks}
    for name, template_name in names.items():
        stage = _stage(clients, environment, name, template_name, exports)
        found += [*_detected(clients, stage.stack), *_compared(stage)]
    return sorted(set(found), key=lambda drift: (drift.stack_name, drift.resource, drift.what))


def _stage(
    clients: Clients, environment: str, name: str, template_name: str, exports: Mapping[str, str]
) -> Stage:
    stack = find_stack(clients, name)
    if stack is None or stack.is_dead:
        raise NotDeployedError(name, environment)
    pages = clients.cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
    physical = {
        item["LogicalResourceId"]: item["PhysicalResourceId"]
        for page in pages
        for item in page["StackResourceSummaries"]
        if "PhysicalResourceId" in item
    }
    return Stage(clients, template_name, stack, physical, exports)


def _detected(clients: Clients, stack: DeployedStack) -> Iterator[Drift]:
    """List the differences that CloudFormation's own detection finds."""
    detection = clients.cloudformation.detect_stack_drift(StackName=stack.name)[
        "StackDriftDetectionId"
    ]
    for delay in delays(DETECT_WITHIN_S):
        status = clients.cloudformation.describe_stack_drift_detection_status(
            StackDriftDetectionId=detection
        )
        if status["DetectionStatus"] != "DETECTION_IN_PROGRESS":
            break
        time.sleep(delay)
    for item in _drifted_resources(clients, stack.name):
        paths = sorted(
            {difference["PropertyPath"] for difference in item.get("PropertyDifferences", ())}
        )
        what = (
            "deleted"
            if item["StackResourceDriftStatus"] == "DELETED"
            else f"CloudFormation: {', '.join(paths)}"
        )
        yield Drift(stack_name=stack.name, resource=item["LogicalResourceId"], what=what)


def _drifted_resources(clients: Clients, name: str) -> Iterator[Mapping[str, Any]]:
    request: DescribeStackResourceDriftsInputTypeDef = {
        "StackName": name,
        "StackResourceDriftStatusFilters": ["MODIFIED", "DELETED"],
    }
    while True:
        page = clients.cloudformation.describe_stack_resource_drifts(**request)
        yield from page["StackResourceDrifts"]
        if not page.get("NextToken"):
            return
        request["NextToken"] = page["NextToken"]


def _compared(stage: Stage) -> Iterator[Drift]:
    """Read what security depends on through its own service, and compare it with the template."""
    for logical_id, resource in resources_made(stage.concern, stage.values).items():
        reader = READERS.get(resource["Type"])
        if reader is None:
            continue
        if logical_id not in stage.physical:
            yield Drift(stack_name=stage.stack.name, resource=logical_id, what=NOT_IN_STACK)
            continue
        try:
            problems = list(reader(stage, logical_id))
        except ClientError as error:
            if not code_of(error).startswith(("NoSuch", "Invalid", "ResourceNotFound")):
                raise
            problems = ["deleted"]
        yield from (
            Drift(stack_name=stage.stack.name, resource=logical_id, what=what) for what in problems
        )


def _as_document(document: Any) -> Any:
    """Return a policy as data. Some services return it as text."""
    return json.loads(document) if isinstance(document, str) else document


def _different(name: str, expected: Any, actual: Any) -> Iterator[str]:
    if canonical(expected) != canonical(actual):
        yield name


def _role(stage: Stage, logical_id: str) -> Iterator[str]:
    """Compare a role's trust policy, boundary and policies, and report any other policy."""
    iam, wanted, name = stage.clients.iam, stage.properties(logical_id), stage.physical[logical_id]
    role = iam.get_role(RoleName=name)["Role"]
    yield from _different(
        "its trust policy", wanted["AssumeRolePolicyDocument"], role["AssumeRolePolicyDocument"]
    )
    boundary = role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")
    yield from _different("its boundary", wanted["PermissionsBoundary"], boundary)
    policies = {policy["PolicyName"]: policy["PolicyDocument"] for policy in wanted["Policies"]}
    there = iam.list_role_policies(RoleName=name)["PolicyNames"]
    for policy_name in sorted({*policies, *there}):
        if policy_name not in there:
            yield f"its policy {policy_name} is gone"
        elif policy_name not in policies:
            yield f"a policy {policy_name} was added"
        else:
            document = iam.get_role_policy(RoleName=name, PolicyName=policy_name)["PolicyDocument"]
            yield from _different(f"its policy {policy_name}", policies[policy_name], document)
    for attached in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
        yield f"the policy {attached['PolicyName']} was attached"


def _managed_policy(stage: Stage, logical_id: str) -> Iterator[str]:
    """Compare the default version's document, and the roles that the policy is attached to."""
    iam, wanted, arn = stage.clients.iam, stage.properties(logical_id), stage.physical[logical_id]
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
    yield from _different("its document", wanted["PolicyDocument"], _as_document(document))
    for role in wanted.get("Roles", ()):
        attached = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
        if arn not in {policy["PolicyArn"] for policy in attached}:
            yield f"it is not attached to {role}"


def _bucket(stage: Stage, logical_id: str) -> Iterator[str]:
    """Compare versioning, public access, ownership, encryption, events and lifecycle rules."""
    s3, wanted, name = stage.clients.s3, stage.properties(logical_id), stage.physical[logical_id]
    versioning = s3.get_bucket_versioning(Bucket=name).get("Status")
    yield from _different("its versioning", wanted["VersioningConfiguration"]["Status"], versioning)
    yield from _or_gone(
        "its block of public access",
        wanted["PublicAccessBlockConfiguration"],
        lambda: s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"],
    )
    yield from _or_gone(
        "its ownership controls",
        wanted["OwnershipControls"]["Rules"],
        lambda: s3.get_bucket_ownership_controls(Bucket=name)["OwnershipControls"]["Rules"],
    )
    (encryption,) = wanted["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    algorithm = encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"]
    yield from _or_gone(
        "its encryption", algorithm, lambda: _algorithm(s3.get_bucket_encryption(Bucket=name))
    )
    if "EventBridgeConfiguration" not in s3.get_bucket_notification_configuration(Bucket=name):
        yield "its events"
    rules = {rule["Id"]: rule["Status"] for rule in wanted["LifecycleConfiguration"]["Rules"]}
    yield from _or_gone(
        "its lifecycle",
        rules,
        lambda: {
            rule["ID"]: rule["Status"]
            for rule in s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
        },
    )


def _algorithm(answer: Mapping[str, Any]) -> str:
    return str(
        answer["ServerSideEncryptionConfiguration"]["Rules"][0][
            "ApplyServerSideEncryptionByDefault"
        ]["SSEAlgorithm"]
    )


def _or_gone(name: str, expected: Any, read: Callable[[], Any]) -> Iterator[str]:
    try:
        actual = read()
    except ClientError as error:
        if not code_of(error).startswith(
            ("NoSuch", "OwnershipControlsNotFound", "ServerSideEncryption")
        ):
            raise
        actual = None
    yield from _different(name, expected, actual)


def _bucket_policy(stage: Stage, logical_id: str) -> Iterator[str]:
    wanted = stage.properties(logical_id)
    actual = json.loads(stage.clients.s3.get_bucket_policy(Bucket=wanted["Bucket"])["Policy"])
    sids = {
        statement["Sid"]: canonical(statement)
        for statement in wanted["PolicyDocument"]["Statement"]
    }
    there = {statement.get("Sid", "?"): canonical(statement) for statement in actual["Statement"]}
    yield from (f"its statement {sid} is gone" for sid in sids if sid not in there)
    yield from (f"a statement {sid} was added" for sid in there if sid not in sids)
    yield from (f"its statement {sid}" for sid in sids if sid in there and sids[sid] != there[sid])


def _security_group(stage: Stage, logical_id: str) -> Iterator[str]:
    """Compare a security group's rules one by one."""
    wanted = stage.properties(logical_id)
    rules = stage.clients.ec2.describe_security_groups(GroupIds=[stage.physical[logical_id]])[
        "SecurityGroups"
    ][0]
    for words, key, actual in (
        ("an inbound rule", "SecurityGroupIngress", rules.get("IpPermissions", ())),
        ("an outbound rule", "SecurityGroupEgress", rules.get("IpPermissionsEgress", ())),
    ):
        expected = {
            _target(rule)
            for rule in [
                *wanted.get(key, ()),
                *_rules_beside(stage, logical_id, f"AWS::EC2::{key}"),
            ]
        }
        there = {target for permission in actual for target in _targets(permission)}
        yield from (
            f"{words} was added: {' '.join(map(str, target))}"
            for target in sorted(there - expected, key=str)
        )
        yield from (
            f"{words} is gone: {' '.join(map(str, target))}"
            for target in sorted(expected - there, key=str)
        )


def _rules_beside(stage: Stage, group: str, kind: str) -> Iterator[Mapping[str, Any]]:
    """Yield the rules of a group that the template declares as resources of their own."""
    for logical_id, resource in resources_made(stage.concern, stage.values).items():
        if resource["Type"] == kind and resource["Properties"]["GroupId"] == {"Ref": group}:
            yield stage.properties(logical_id)


#: The properties of a rule that can name its other end.
PEERS = (
    "CidrIp",
    "DestinationPrefixListId",
    "SourceSecurityGroupId",
    "DestinationSecurityGroupId",
)


def _target(rule: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(rule["IpProtocol"]),
        str(rule.get("FromPort", "all")),
        str(rule.get("ToPort", "all")),
        next((str(rule[name]) for name in PEERS if rule.get(name)), "?"),
    )


def _targets(permission: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    ports = (
        str(permission["IpProtocol"]),
        str(permission.get("FromPort", "all")),
        str(permission.get("ToPort", "all")),
    )
    yield from ((*ports, item["CidrIp"]) for item in permission.get("IpRanges", ()))
    yield from ((*ports, item["CidrIpv6"]) for item in permission.get("Ipv6Ranges", ()))
    yield from ((*ports, item["PrefixListId"]) for item in permission.get("PrefixListIds", ()))
    yield from ((*ports, item["GroupId"]) for item in permission.get("UserIdGroupPairs", ()))


def _endpoint(stage: Stage, logical_id: str) -> Iterator[str]:
    wanted = stage.properties(logical_id)
    found = stage.clients.ec2.describe_vpc_endpoints(VpcEndpointIds=[stage.physical[logical_id]])[
        "VpcEndpoints"
    ][0]
    if "PolicyDocument" in wanted:
        yield from _different(
            "its policy",
            wanted["PolicyDocument"],
            _as_document(found.get("PolicyDocument") or "{}"),
        )


def _launch_template(stage: Stage, logical_id: str) -> Iterator[str]:
    """Compare the deployed version with the template, and report any newer version."""
    deployed = stage.stack.outputs[f"{logical_id}Version"]
    found = stage.clients.ec2.describe_launch_templates(
        LaunchTemplateIds=[stage.physical[logical_id]]
    )["LaunchTemplates"][0]
    if str(found["LatestVersionNumber"]) != deployed:
        yield f"version {found['LatestVersionNumber']} was added after version {deployed}"
    wanted = stage.properties(logical_id)["LaunchTemplateData"]
    version = stage.clients.ec2.describe_launch_template_versions(
        LaunchTemplateId=stage.physical[logical_id], Versions=[deployed]
    )["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    for key in (
        "SecurityGroupIds",
        "IamInstanceProfile",
        "InstanceInitiatedShutdownBehavior",
        "InstanceType",
        "UserData",
    ):
        yield from _different(f"its {key}", wanted[key], version.get(key))
    options = version.get("MetadataOptions", {})
    there = {key: options.get(key) for key in wanted["MetadataOptions"]}
    yield from _different("its MetadataOptions", wanted["MetadataOptions"], there)


def _alias(stage: Stage, logical_id: str) -> Iterator[str]:
    name = stage.stack.outputs["EvaluatorFunctionName"]
    found = stage.clients.lambda_.get_alias(FunctionName=name, Name="live")
    if found["FunctionVersion"] != stage.stack.outputs["EvaluatorVersion"]:
        yield (
            f"it points to version {found['FunctionVersion']}, not "
            f"{stage.stack.outputs['EvaluatorVersion']}"
        )
    if found.get("RoutingConfig", {}).get("AdditionalVersionWeights"):
        yield "a part of its calls goes to another version"
    if logical_id not in stage.physical:
        yield "deleted"


READERS: dict[str, Callable[[Stage, str], Iterator[str]]] = {
    "AWS::IAM::Role": _role,
    "AWS::IAM::ManagedPolicy": _managed_policy,
    "AWS::S3::Bucket": _bucket,
    "AWS::S3::BucketPolicy": _bucket_policy,
    "AWS::EC2::SecurityGroup": _security_group,
    "AWS::EC2::VPCEndpoint": _endpoint,
    "AWS::EC2::LaunchTemplate": _launch_template,
    "AWS::Lambda::Alias": _alias,
}
