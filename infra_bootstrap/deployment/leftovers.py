"""Prove that nothing of an environment is left, or list what is.

No single service knows everything. CloudFormation knows the stacks. Each service knows the names
that our templates give. EC2 and the tagging service know our tags, but they may name what is
deleted, so each resource with a tag is looked up again.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from infra_bootstrap.clients import Clients, is_missing, is_refusal
from infra_bootstrap.reaper.reaper import ENVIRONMENT_TAG, PRESENT
from infra_bootstrap.stacks.concerns import DEPLOYMENT_TAG, Concern, stack_name
from infra_bootstrap.stacks.deployed import find_stack
from infra_bootstrap.stacks.settings import DeploymentSettings
from infra_bootstrap.stacks.template_files import template

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef

#: How long a resource may still be found after its deletion. A queue takes up to 60 seconds:
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteQueue.html
SETTLE_S = 75.0
Look = Callable[[Clients, str], Any]


class Proof(NamedTuple):
    """What is left, and what the caller may not look at.

    :param left: what still exists.
    :param unknown: what nothing is known about, because the caller lacks a permission.
    """

    left: tuple[str, ...]
    unknown: tuple[str, ...]


def _log_group(clients: Clients, name: str) -> Any:
    groups = clients.client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    return [group for group in groups if group["logGroupName"] == name]


#: For each type of resource that our templates name: the property with the name, and how to look it
#: up. A look gives something true, or raises an error for something that does not exist.
NAMED: dict[str, tuple[str, Look]] = {
    "AWS::IAM::Role": ("RoleName", lambda at, name: at.iam.get_role(RoleName=name)),
    "AWS::IAM::InstanceProfile": (
        "InstanceProfileName",
        lambda at, name: at.iam.get_instance_profile(InstanceProfileName=name),
    ),
    "AWS::IAM::ManagedPolicy": (
        "ManagedPolicyName",
        lambda at, name: at.iam.get_policy(
            PolicyArn=f"arn:{at.partition}:iam::{at.account_id}:policy/{name}"
        ),
    ),
    "AWS::S3::Bucket": ("BucketName", lambda at, name: at.s3.head_bucket(Bucket=name)),
    "AWS::Logs::LogGroup": ("LogGroupName", _log_group),
    "AWS::Lambda::Function": (
        "FunctionName",
        lambda at, name: at.lambda_.get_function(FunctionName=name),
    ),
    "AWS::Lambda::LayerVersion": (
        "LayerName",
        lambda at, name: at.lambda_.list_layer_versions(LayerName=name)["LayerVersions"],
    ),
    "AWS::SQS::Queue": ("QueueName", lambda at, name: at.sqs.get_queue_url(QueueName=name)),
    "AWS::SNS::Topic": (
        "TopicName",
        lambda at, name: at.sns.get_topic_attributes(
            TopicArn=f"arn:{at.partition}:sns:{at.region}:{at.account_id}:{name}"
        ),
    ),
    "AWS::CloudWatch::Alarm": (
        "AlarmName",
        lambda at, name: at.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"],
    ),
    "AWS::Events::Rule": ("Name", lambda at, name: at.client("events").describe_rule(Name=name)),
    "AWS::EC2::LaunchTemplate": (
        "LaunchTemplateName",
        lambda at, name: at.ec2.describe_launch_templates(LaunchTemplateNames=[name])[
            "LaunchTemplates"
        ],
    ),
    "AWS::Budgets::Budget": (
        "BudgetName",
        lambda at, name: at.client("budgets").describe_budget(
            AccountId=at.account_id, BudgetName=name
        ),
    ),
}
#: The type of a resource, by the beginning of its ARN after `arn:aws:`, without region and account.
#: The group of each pattern is the name.
TYPES_OF_ARNS: dict[str, str] = {
    r"iam::role/(?:.*/)?([^/]+)": "AWS::IAM::Role",
    r"iam::instance-profile/(?:.*/)?([^/]+)": "AWS::IAM::InstanceProfile",
    r"iam::policy/(?:.*/)?([^/]+)": "AWS::IAM::ManagedPolicy",
    r"s3::([^/]+)": "AWS::S3::Bucket",
    r"logs::log-group:([^:]+)(?::\*)?": "AWS::Logs::LogGroup",
    r"lambda::function:([^:]+)(?::[^:]+)?": "AWS::Lambda::Function",
    r"lambda::layer:([^:]+)(?::\d+)?": "AWS::Lambda::LayerVersion",
    r"sqs::([^:/]+)": "AWS::SQS::Queue",
    r"sns::([^:/]+)": "AWS::SNS::Topic",
    r"cloudwatch::alarm:(.+)": "AWS::CloudWatch::Alarm",
    r"events::rule/([^/]+)": "AWS::Events::Rule",
    r"budgets::budget/(.+)": "AWS::Budgets::Budget",
}
#: How to look up a resource of EC2 by its id: the call, the parameter and the list in the answer.
EC2_LOOKS: dict[str, tuple[str, str, str]] = {
    "vpc": ("describe_vpcs", "VpcIds", "Vpcs"),
    "subnet": ("describe_subnets", "SubnetIds", "Subnets"),
    "route-table": ("describe_route_tables", "RouteTableIds", "RouteTables"),
    "security-group": ("describe_security_groups", "GroupIds", "SecurityGroups"),
    "internet-gateway": ("describe_internet_gateways", "InternetGatewayIds", "InternetGateways"),
    "natgateway": ("describe_nat_gateways", "NatGatewayIds", "NatGateways"),
    "vpc-endpoint": ("describe_vpc_endpoints", "VpcEndpointIds", "VpcEndpoints"),
    "elastic-ip": ("describe_addresses", "AllocationIds", "Addresses"),
    "vpc-flow-log": ("describe_flow_logs", "FlowLogIds", "FlowLogs"),
    "launch-template": ("describe_launch_templates", "LaunchTemplateIds", "LaunchTemplates"),
    "instance": ("describe_instances", "InstanceIds", "Reservations"),
    "volume": ("describe_volumes", "VolumeIds", "Volumes"),
    "network-interface": (
        "describe_network_interfaces",
        "NetworkInterfaceIds",
        "NetworkInterfaces",
    ),
}
#: These are records of a request. They cost nothing and cannot be deleted, and they stay visible
#: for hours or days.
#: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-request-status.html
REQUESTS = ("spot-instances-request", "fleet")


def prove_gone(
    clients: Clients,
    settings: DeploymentSettings,
    kept: set[Concern],
    settle_s: float = SETTLE_S,
    sleep: Callable[[float], None] = time.sleep,
) -> Proof:
    """Look for everything of an environment, until nothing is left or it has had time to go.

    :param kept: the stacks that were kept, which are not left over.
    :param settle_s: how long to look again for what is left, seconds. A bucket or a stack does not
        go by itself, so it is not waited for.
    """
    waited, pause = 0.0, 5.0
    while True:
        proof = look(clients, settings, kept)
        going = [name for name in proof.left if not name.startswith(("bucket ", "stack "))]
        if not going or waited >= settle_s:
            return proof
        sleep(pause)
        waited += pause


def look(clients: Clients, settings: DeploymentSettings, kept: set[Concern]) -> Proof:
    """Look once for everything of an environment that was not kept."""
    left: dict[str, None] = {}
    unknown: dict[str, None] = {}
    environment = settings.environment
    for concern in Concern:
        if concern not in kept and find_stack(clients, stack_name(environment, concern)):
            left[f"stack {stack_name(environment, concern)}"] = None
    for kind, name in (*_names(clients, environment, kept), *_tagged(clients, settings, kept)):
        found = _exists(clients, kind, name)
        if found is not False:
            (left if found else unknown)[f"{_words(kind)} {name}"] = None
    if Concern.NETWORK not in kept:
        left |= dict.fromkeys(_tagged_in_ec2(clients, environment))
    return Proof(tuple(sorted(left)), tuple(sorted(unknown)))


def _words(kind: str) -> str:
    """Return the words for a type.

    >>> _words("AWS::IAM::InstanceProfile")
    'instance profile'
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.rsplit("::", 1)[-1]).lower()


def _exists(clients: Clients, kind: str, name: str) -> bool | None:
    """Look up one resource. :return: None if the caller may not look."""
    if kind not in NAMED:
        return True  # our tag is on something that our templates do not make
    try:
        return bool(NAMED[kind][1](clients, name))
    except ClientError as error:
        if is_missing(error):
            return False
        if is_refusal(error):
            return None
        raise


def _names(clients: Clients, environment: str, kept: set[Concern]) -> Iterator[tuple[str, str]]:
    """List the type and the name of each resource that our templates name."""
    values = {
        "Environment": environment,
        "AWS::AccountId": clients.account_id,
        "AWS::Region": clients.region,
    }
    for concern in Concern:
        resources = template(concern)["Resources"] if concern not in kept else {}
        for resource in resources.values():
            if resource["Type"] in NAMED:
                for name in _names_of(resource, values):
                    yield resource["Type"], name


def _names_of(resource: Mapping[str, Any], values: Mapping[str, str]) -> list[str]:
    """Return the names that a template may give a resource; none if CloudFormation makes one up."""
    properties = resource["Properties"]
    given = properties.get("Budget", properties).get(NAMED[resource["Type"]][0])
    choices = given["Fn::If"][1:] if isinstance(given, dict) and "Fn::If" in given else [given]
    return [_resolve(choice, values) for choice in choices if choice is not None]


def _resolve(given: Any, values: Mapping[str, str]) -> str:
    if not isinstance(given, dict):
        return str(given)
    return re.sub(r"\$\{([^}]+)\}", lambda match: values[match.group(1)], str(given["Fn::Sub"]))


def _tagged(
    clients: Clients, settings: DeploymentSettings, kept: set[Concern]
) -> Iterator[tuple[str, str]]:
    """List the type and the name of what has our tags, except for EC2's resources and stacks."""
    tagging = clients.client("resourcegroupstaggingapi").get_paginator("get_resources")
    arns: dict[str, None] = {}
    for key in (ENVIRONMENT_TAG, DEPLOYMENT_TAG):
        wanted = [{"Key": key, "Values": [settings.environment]}]
        for page in tagging.paginate(TagFilters=wanted):
            arns |= dict.fromkeys(item["ResourceARN"] for item in page["ResourceTagMappingList"])
    for arn in arns:
        service = arn.split(":")[2]
        stays = (service == "iam" and Concern.IDENTITY in kept) or (
            service == "s3" and Concern.STORAGE in kept
        )
        if service not in ("ec2", "cloudformation") and not stays:
            yield type_of_arn(arn)


def type_of_arn(arn: str) -> tuple[str, str]:
    """Read the type and the name of a resource in its ARN.

    >>> type_of_arn("arn:aws:lambda:eu-west-1:123456789012:function:nightshift-dev-reaper")
    ('AWS::Lambda::Function', 'nightshift-dev-reaper')
    >>> type_of_arn("arn:aws:kms:eu-west-1:123456789012:key/1")
    ('kms', 'arn:aws:kms:eu-west-1:123456789012:key/1')
    """
    _, _, service, _, _, rest = arn.split(":", 5)
    for pattern, kind in TYPES_OF_ARNS.items():
        if match := re.fullmatch(pattern, f"{service}::{rest}"):
            return kind, match.group(1)
    return service, arn


def _tagged_in_ec2(clients: Clients, environment: str) -> Iterator[str]:
    found: dict[str, str] = {}
    for key in (ENVIRONMENT_TAG, DEPLOYMENT_TAG):
        filters: list[FilterTypeDef] = [
            {"Name": "key", "Values": [key]},
            {"Name": "value", "Values": [environment]},
        ]
        for page in clients.ec2.get_paginator("describe_tags").paginate(Filters=filters):
            found |= {item["ResourceId"]: item["ResourceType"] for item in page["Tags"]}
    for name, kind in sorted(found.items()):
        if kind not in REQUESTS and _exists_in_ec2(clients, kind, name):
            yield f"{kind} {name}"


def _exists_in_ec2(clients: Clients, kind: str, name: str) -> bool:
    """Look up a resource of EC2, because EC2 shows the tags of what it has deleted for a while.

    What the caller may not look up exists as long as its tags do.
    Source: https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html
    """
    if kind not in EC2_LOOKS:
        return True
    call, parameter, members = EC2_LOOKS[kind]
    try:
        found = getattr(clients.ec2, call)(**{parameter: [name]})[members]
    except ClientError as error:
        if is_missing(error):
            return False
        if is_refusal(error):
            return True
        raise
    if kind == "instance":
        states = [item["State"]["Name"] for group in found for item in group["Instances"]]
        return any(state in PRESENT for state in states)
    return any(str(item.get("State", "")).lower() != "deleted" for item in found)
