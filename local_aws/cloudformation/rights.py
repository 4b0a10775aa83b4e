"""What CloudFormation calls for each type of resource, so that its service role's permissions count.

The calls are those of the types' own handlers, as their schemas list them:
https://docs.aws.amazon.com/cloudformation-cli/latest/userguide/resource-type-schema.html. Only what creates, changes
and deletes is asked for, with the properties that cause it; what handlers merely read is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Properties = Mapping[str, Any]


@dataclass(frozen=True)
class Right:
    """One call that CloudFormation makes.

    :param when: the property that causes the call; None for always.
    """

    action: str
    when: str | None = None


@dataclass(frozen=True)
class Rights:
    """The calls for one type.

    :param arn: of the resource, from its properties and, once it exists, its physical id.
    """

    arn: Callable[[Properties, str, str, str], str]
    create: tuple[Right, ...]
    update: tuple[Right, ...]
    delete: tuple[Right, ...]


def _ec2(kind: str) -> Callable[[Properties, str, str, str], str]:
    """Return how an EC2 resource's ARN is made."""
    return lambda _properties, physical_id, account, region: f"arn:aws:ec2:{region}:{account}:{kind}/{physical_id or '*'}"


def _named(service: str, prefix: str, name: str, region_free: bool = False) -> Callable[[Properties, str, str, str], str]:
    """Return how the ARN of a resource with a name of its own is made."""

    def arn(properties: Properties, physical_id: str, account: str, region: str) -> str:
        given = str(properties.get(name) or physical_id or "*").rsplit("/" if service != "logs" else "\0", 1)[-1]
        return f"arn:aws:{service}:{'' if region_free else region}:{account}:{prefix}{given}"

    return arn


def _function(properties: Properties, physical_id: str, account: str, region: str) -> str:
    """Return the ARN of the function that something belongs to."""
    given = str(properties.get("FunctionName") or physical_id or "*")
    name = given.split(":function:")[-1].split(":")[0]
    return f"arn:aws:lambda:{region}:{account}:function:{name}"


def _bucket(properties: Properties, physical_id: str, _account: str, _region: str) -> str:
    """Return a bucket's ARN."""
    return f"arn:aws:s3:::{properties.get('BucketName') or properties.get('Bucket') or physical_id}"


def _r(*actions: str) -> tuple[Right, ...]:
    """Return rights from ``action`` and ``action if Property``."""
    parts = (action.partition(" if ") for action in actions)
    return tuple(Right(action, when or None) for action, _, when in parts)


_TAGS = "ec2:CreateTags if Tags"
_BUCKET_PARTS = (
    "s3:PutBucketVersioning if VersioningConfiguration", "s3:PutEncryptionConfiguration if BucketEncryption",
    "s3:PutLifecycleConfiguration if LifecycleConfiguration", "s3:PutBucketPublicAccessBlock if PublicAccessBlockConfiguration",
    "s3:PutBucketOwnershipControls if OwnershipControls", "s3:PutBucketNotification if NotificationConfiguration",
    "s3:PutBucketTagging if Tags",
)  # fmt: skip
_ROLE_PARTS = (
    "iam:PutRolePolicy if Policies",
    "iam:AttachRolePolicy if ManagedPolicyArns",
    "iam:PutRolePermissionsBoundary if PermissionsBoundary",
    "iam:TagRole if Tags",
)
_POLICY_PARTS = ("iam:AttachRolePolicy if Roles", "iam:AttachUserPolicy if Users", "iam:AttachGroupPolicy if Groups")

TABLE: dict[str, Rights] = {
    "AWS::EC2::VPC": Rights(
        _ec2("vpc"),
        _r("ec2:CreateVpc", _TAGS, "ec2:ModifyVpcAttribute if EnableDnsHostnames"),
        _r("ec2:ModifyVpcAttribute"),
        _r("ec2:DeleteVpc"),
    ),
    "AWS::EC2::Subnet": Rights(
        _ec2("subnet"), _r("ec2:CreateSubnet", _TAGS), _r("ec2:ModifySubnetAttribute"), _r("ec2:DeleteSubnet")
    ),
    "AWS::EC2::RouteTable": Rights(_ec2("route-table"), _r("ec2:CreateRouteTable", _TAGS), _r(_TAGS), _r("ec2:DeleteRouteTable")),
    "AWS::EC2::Route": Rights(_ec2("route-table"), _r("ec2:CreateRoute"), _r("ec2:ReplaceRoute"), _r("ec2:DeleteRoute")),
    "AWS::EC2::SubnetRouteTableAssociation": Rights(
        _ec2("subnet"), _r("ec2:AssociateRouteTable"), _r("ec2:AssociateRouteTable"), _r("ec2:DisassociateRouteTable")
    ),
    "AWS::EC2::VPCEndpoint": Rights(
        _ec2("vpc-endpoint"), _r("ec2:CreateVpcEndpoint", _TAGS), _r("ec2:ModifyVpcEndpoint"), _r("ec2:DeleteVpcEndpoints")
    ),
    "AWS::EC2::SecurityGroup": Rights(
        _ec2("security-group"),
        _r(
            "ec2:CreateSecurityGroup",
            _TAGS,
            "ec2:AuthorizeSecurityGroupEgress if SecurityGroupEgress",
            "ec2:RevokeSecurityGroupEgress if SecurityGroupEgress",
            "ec2:AuthorizeSecurityGroupIngress if SecurityGroupIngress",
        ),
        _r("ec2:AuthorizeSecurityGroupEgress if SecurityGroupEgress", "ec2:RevokeSecurityGroupEgress if SecurityGroupEgress"),
        _r("ec2:DeleteSecurityGroup"),
    ),
    "AWS::EC2::InternetGateway": Rights(
        _ec2("internet-gateway"), _r("ec2:CreateInternetGateway", _TAGS), _r(_TAGS), _r("ec2:DeleteInternetGateway")
    ),
    "AWS::EC2::VPCGatewayAttachment": Rights(
        _ec2("internet-gateway"),
        _r("ec2:AttachInternetGateway"),
        _r("ec2:AttachInternetGateway"),
        _r("ec2:DetachInternetGateway"),
    ),
    "AWS::EC2::EIP": Rights(_ec2("elastic-ip"), _r("ec2:AllocateAddress", _TAGS), _r(_TAGS), _r("ec2:ReleaseAddress")),
    "AWS::EC2::NatGateway": Rights(_ec2("natgateway"), _r("ec2:CreateNatGateway", _TAGS), _r(_TAGS), _r("ec2:DeleteNatGateway")),
    "AWS::EC2::FlowLog": Rights(_ec2("vpc-flow-log"), _r("ec2:CreateFlowLogs", _TAGS), _r(_TAGS), _r("ec2:DeleteFlowLogs")),
    "AWS::EC2::LaunchTemplate": Rights(
        _ec2("launch-template"),
        _r("ec2:CreateLaunchTemplate", "ec2:CreateTags if TagSpecifications"),
        _r("ec2:CreateLaunchTemplateVersion"),
        _r("ec2:DeleteLaunchTemplate"),
    ),
    "AWS::S3::Bucket": Rights(_bucket, _r("s3:CreateBucket", *_BUCKET_PARTS), _r(*_BUCKET_PARTS), _r("s3:DeleteBucket")),
    "AWS::S3::BucketPolicy": Rights(_bucket, _r("s3:PutBucketPolicy"), _r("s3:PutBucketPolicy"), _r("s3:DeleteBucketPolicy")),
    "AWS::IAM::Role": Rights(
        _named("iam", "role/", "RoleName", True),
        _r("iam:CreateRole", *_ROLE_PARTS),
        _r("iam:UpdateRole", *_ROLE_PARTS),
        _r("iam:DeleteRole", "iam:DeleteRolePolicy if Policies"),
    ),
    "AWS::IAM::ManagedPolicy": Rights(
        _named("iam", "policy/", "ManagedPolicyName", True),
        _r("iam:CreatePolicy"),
        _r("iam:CreatePolicyVersion"),
        _r("iam:DeletePolicy"),
    ),
    "AWS::IAM::InstanceProfile": Rights(
        _named("iam", "instance-profile/", "InstanceProfileName", True),
        _r("iam:CreateInstanceProfile", "iam:AddRoleToInstanceProfile if Roles"),
        _r("iam:AddRoleToInstanceProfile if Roles"),
        _r("iam:RemoveRoleFromInstanceProfile if Roles", "iam:DeleteInstanceProfile"),
    ),
    "AWS::Lambda::Function": Rights(
        _function,
        _r(
            "lambda:CreateFunction", "lambda:PutFunctionConcurrency if ReservedConcurrentExecutions", "lambda:TagResource if Tags"
        ),
        _r("lambda:UpdateFunctionConfiguration", "lambda:UpdateFunctionCode if Code"),
        _r("lambda:DeleteFunction"),
    ),
    "AWS::Lambda::Version": Rights(
        _function, _r("lambda:PublishVersion"), _r("lambda:PublishVersion"), _r("lambda:DeleteFunction")
    ),
    "AWS::Lambda::Alias": Rights(_function, _r("lambda:CreateAlias"), _r("lambda:UpdateAlias"), _r("lambda:DeleteAlias")),
    "AWS::Lambda::EventInvokeConfig": Rights(
        _function,
        _r("lambda:PutFunctionEventInvokeConfig"),
        _r("lambda:PutFunctionEventInvokeConfig"),
        _r("lambda:DeleteFunctionEventInvokeConfig"),
    ),
    "AWS::Lambda::Permission": Rights(
        _function, _r("lambda:AddPermission"), _r("lambda:AddPermission"), _r("lambda:RemovePermission")
    ),
    "AWS::Lambda::LayerVersion": Rights(
        _named("lambda", "layer:", "LayerName"),
        _r("lambda:PublishLayerVersion"),
        _r("lambda:PublishLayerVersion"),
        _r("lambda:DeleteLayerVersion"),
    ),
    "AWS::Logs::LogGroup": Rights(
        _named("logs", "log-group:", "LogGroupName"),
        _r("logs:CreateLogGroup", "logs:PutRetentionPolicy if RetentionInDays", "logs:TagResource if Tags"),
        _r("logs:PutRetentionPolicy if RetentionInDays"),
        _r("logs:DeleteLogGroup"),
    ),
    "AWS::Events::Rule": Rights(
        _named("events", "rule/", "Name"),
        _r("events:PutRule", "events:PutTargets if Targets"),
        _r("events:PutRule", "events:PutTargets if Targets"),
        _r("events:RemoveTargets if Targets", "events:DeleteRule"),
    ),
    "AWS::SQS::Queue": Rights(
        _named("sqs", "", "QueueName"),
        _r("sqs:CreateQueue", "sqs:TagQueue if Tags"),
        _r("sqs:SetQueueAttributes"),
        _r("sqs:DeleteQueue"),
    ),
    "AWS::SNS::Topic": Rights(
        _named("sns", "", "TopicName"),
        _r("sns:CreateTopic", "sns:TagResource if Tags"),
        _r("sns:SetTopicAttributes"),
        _r("sns:DeleteTopic"),
    ),
    "AWS::CloudWatch::Alarm": Rights(
        _named("cloudwatch", "alarm:", "AlarmName"),
        _r("cloudwatch:PutMetricAlarm"),
        _r("cloudwatch:PutMetricAlarm"),
        _r("cloudwatch:DeleteAlarms"),
    ),
}
PASSED = {
    "AWS::Lambda::Function": ("Role", "lambda.amazonaws.com"),
    "AWS::EC2::FlowLog": ("DeliverLogsPermissionArn", "vpc-flow-logs.amazonaws.com"),
    "AWS::Events::Rule": ("RoleArn", "events.amazonaws.com"),
    "AWS::Scheduler::Schedule": ("RoleArn", "scheduler.amazonaws.com"),
}
"""The property that passes a role to a service."""
READ_OBJECTS = {"AWS::Lambda::Function": "Code", "AWS::Lambda::LayerVersion": "Content"}
"""The property that names an object, which Lambda reads with the caller's rights."""


def tags_of(properties: Properties) -> dict[str, str]:
    """Return a resource's own tags; those that CloudFormation adds by itself need nobody's permission."""
    tags = properties.get("Tags") or []
    found = tags if isinstance(tags, Mapping) else {tag["Key"]: tag.get("Value", "") for tag in tags}
    return {str(key): str(value) for key, value in found.items() if not str(key).startswith("aws:")}


def is_caused(right: Right, properties: Properties) -> bool:
    """Say whether a resource's properties cause a call."""
    if right.when == "Tags":
        return bool(tags_of(properties))
    return right.when is None or properties.get(right.when) not in (None, [], {})


def needed(
    kind: str, verb: str, properties: Properties, physical_id: str, account: str, region: str
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each action, its resource and its condition keys for creating, updating or deleting a resource."""
    rights = TABLE.get(kind)
    if rights:
        arn = rights.arn(properties, physical_id, account, region)
        for right in getattr(rights, verb):
            if is_caused(right, properties):
                yield right.action, arn, _keys(right.action, verb, properties)
    if verb != "delete":
        yield from _passed(kind, properties)
        yield from _objects(kind, properties)


def _keys(action: str, verb: str, properties: Properties) -> dict[str, Any]:
    """Return the condition keys of a call: the tags that it sets, and what creates them."""
    tags = tags_of(properties)
    keys: dict[str, Any] = {f"aws:RequestTag/{key}": value for key, value in tags.items()}
    if tags:
        keys["aws:TagKeys"] = list(tags)
    if action == "ec2:CreateTags" and verb == "create":
        keys["ec2:CreateAction"] = "Create"
    return keys


def _passed(kind: str, properties: Properties) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the role that is passed to a service."""
    name, service = PASSED.get(kind, ("", ""))
    if role := properties.get(name):
        yield "iam:PassRole", str(role), {"iam:PassedToService": service}


def _objects(kind: str, properties: Properties) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the object that code is read from."""
    code = properties.get(READ_OBJECTS.get(kind, "")) or {}
    if isinstance(code, Mapping) and code.get("S3Bucket"):
        yield "s3:GetObject", f"arn:aws:s3:::{code['S3Bucket']}/{code.get('S3Key')}", {}
