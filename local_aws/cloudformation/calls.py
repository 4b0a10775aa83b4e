"""The API calls that CloudFormation makes for each type of resource.

They are the calls of the types' own handlers, as their schemas list them:
https://docs.aws.amazon.com/cloudformation-cli/latest/userguide/resource-type-schema.html. The table
contains the calls that create, change and delete, with the properties that cause them, but not the
calls that only read. tests/architecture/test_local_rights.py compares it with the schemas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Properties = Mapping[str, Any]


@dataclass(frozen=True)
class Right:
    """One call that CloudFormation makes, on one of the resources that it uses.

    :param when: the property that causes the call. None means that the call is always made.
    :param on: kind and property of an existing resource that the call uses. None means the resource
        itself.
    """

    action: str
    when: str | None = None
    on: tuple[str, str] | None = None


@dataclass(frozen=True)
class Rights:
    """The calls for one type.

    :param arn: makes the resource's ARN from its properties, its physical id (empty before it
        exists), the account and the region.
    """

    arn: Callable[[Properties, str, str, str], str]
    create: tuple[Right, ...]
    update: tuple[Right, ...]
    delete: tuple[Right, ...]


def _ec2(kind: str) -> Callable[[Properties, str, str, str], str]:
    """Return the function that makes the ARN of an EC2 resource."""
    return lambda _properties, physical_id, account, region: (
        f"arn:aws:ec2:{region}:{account}:{kind}/{physical_id or '*'}"
    )


def _named(
    service: str, prefix: str, name: str, region_free: bool = False
) -> Callable[[Properties, str, str, str], str]:
    """Return the function that makes the ARN of a resource with a name."""

    def arn(properties: Properties, physical_id: str, account: str, region: str) -> str:
        given = str(properties.get(name) or physical_id or "*").rsplit(
            "/" if service != "logs" else "\0", 1
        )[-1]
        return f"arn:aws:{service}:{'' if region_free else region}:{account}:{prefix}{given}"

    return arn


def _function(properties: Properties, physical_id: str, account: str, region: str) -> str:
    """Return the ARN of the function to which a resource belongs."""
    given = str(properties.get("FunctionName") or physical_id or "*")
    name = given.split(":function:")[-1].split(":")[0]
    return f"arn:aws:lambda:{region}:{account}:function:{name}"


def _bucket(properties: Properties, physical_id: str, _account: str, _region: str) -> str:
    """Return the ARN of a bucket."""
    return f"arn:aws:s3:::{properties.get('BucketName') or properties.get('Bucket') or physical_id}"


def _listed(name: str, service: str) -> Callable[[Properties, str, str, str], str]:
    """Return the function that makes the ARN of the first queue or topic in a property."""

    def arn(properties: Properties, _id: str, account: str, region: str) -> str:
        given = str((properties.get(name) or ["*"])[0])
        last = given.rsplit("/", 1)[-1].rsplit(":", 1)[-1]
        return f"arn:aws:{service}:{region}:{account}:{last}"

    return arn


def _r(*actions: str) -> tuple[Right, ...]:
    """Return rights from texts.

    Their forms are `action`, `action if Property` and `action on kind Property`.
    """
    return tuple(_right(action) for action in actions)


def _right(text: str) -> Right:
    """Return the right that a text describes."""
    action, _, when = text.partition(" if ")
    action, _, on = action.partition(" on ")
    kind, _, name = on.partition(" ")
    return Right(action, when or name or None, (kind, name) if name else None)


def _endpoint(action: str) -> tuple[str, ...]:
    """Return the rights of a call on a VPC endpoint's route tables, subnets and groups."""
    return tuple(
        f"{action} on {kind} {name}"
        for kind, name in (
            ("route-table", "RouteTableIds"),
            ("subnet", "SubnetIds"),
            ("security-group", "SecurityGroupIds"),
        )
    )


_TAGS = "ec2:CreateTags if Tags"
_BUCKET_PARTS = (
    "s3:PutBucketVersioning if VersioningConfiguration",
    "s3:PutEncryptionConfiguration if BucketEncryption",
    "s3:PutLifecycleConfiguration if LifecycleConfiguration",
    "s3:PutBucketPublicAccessBlock if PublicAccessBlockConfiguration",
    "s3:PutBucketOwnershipControls if OwnershipControls",
    "s3:PutBucketNotification if NotificationConfiguration",
    "s3:PutBucketTagging if Tags",
    "s3:TagResource if Tags",
)
_ROLE_PARTS = (
    "iam:PutRolePolicy if Policies",
    "iam:AttachRolePolicy if ManagedPolicyArns",
    "iam:PutRolePermissionsBoundary if PermissionsBoundary",
    "iam:TagRole if Tags",
)
_POLICY_PARTS = (
    "iam:AttachRolePolicy if Roles",
    "iam:AttachUserPolicy if Users",
    "iam:AttachGroupPolicy if Groups",
)

TABLE: dict[str, Rights] = {
    "AWS::EC2::VPC": Rights(
        _ec2("vpc"),
        _r("ec2:CreateVpc", _TAGS, "ec2:ModifyVpcAttribute if EnableDnsHostnames"),
        _r("ec2:ModifyVpcAttribute"),
        _r("ec2:DeleteVpc"),
    ),
    "AWS::EC2::Subnet": Rights(
        _ec2("subnet"),
        _r(
            "ec2:CreateSubnet",
            "ec2:CreateSubnet on vpc VpcId",
            _TAGS,
            "ec2:ModifySubnetAttribute if MapPublicIpOnLaunch",
        ),
        _r("ec2:ModifySubnetAttribute", _TAGS),
        _r("ec2:DeleteSubnet"),
    ),
    "AWS::EC2::RouteTable": Rights(
        _ec2("route-table"),
        _r("ec2:CreateRouteTable", "ec2:CreateRouteTable on vpc VpcId", _TAGS),
        _r(_TAGS),
        _r("ec2:DeleteRouteTable"),
    ),
    "AWS::EC2::Route": Rights(
        _ec2("route-table"),
        _r("ec2:CreateRoute on route-table RouteTableId"),
        _r("ec2:ReplaceRoute on route-table RouteTableId"),
        _r("ec2:DeleteRoute on route-table RouteTableId"),
    ),
    "AWS::EC2::SubnetRouteTableAssociation": Rights(
        _ec2("subnet"),
        _r(
            "ec2:AssociateRouteTable on route-table RouteTableId",
            "ec2:AssociateRouteTable on subnet SubnetId",
        ),
        _r(
            "ec2:AssociateRouteTable on route-table RouteTableId",
            "ec2:AssociateRouteTable on subnet SubnetId",
        ),
        _r(
            "ec2:DisassociateRouteTable on route-table RouteTableId",
            "ec2:DisassociateRouteTable on subnet SubnetId",
        ),
    ),
    "AWS::EC2::VPCEndpoint": Rights(
        _ec2("vpc-endpoint"),
        _r(
            "ec2:CreateVpcEndpoint",
            *_endpoint("ec2:CreateVpcEndpoint"),
            "ec2:CreateVpcEndpoint on vpc VpcId",
            _TAGS,
        ),
        _r("ec2:ModifyVpcEndpoint", *_endpoint("ec2:ModifyVpcEndpoint")),
        _r("ec2:DeleteVpcEndpoints"),
    ),
    "AWS::EC2::SecurityGroup": Rights(
        _ec2("security-group"),
        _r(
            "ec2:CreateSecurityGroup",
            "ec2:CreateSecurityGroup on vpc VpcId",
            _TAGS,
            "ec2:AuthorizeSecurityGroupEgress if SecurityGroupEgress",
            "ec2:RevokeSecurityGroupEgress if SecurityGroupEgress",
            "ec2:AuthorizeSecurityGroupIngress if SecurityGroupIngress",
        ),
        _r(
            "ec2:AuthorizeSecurityGroupEgress if SecurityGroupEgress",
            "ec2:RevokeSecurityGroupEgress if SecurityGroupEgress",
        ),
        _r("ec2:DeleteSecurityGroup"),
    ),
    "AWS::EC2::InternetGateway": Rights(
        _ec2("internet-gateway"),
        _r("ec2:CreateInternetGateway", _TAGS),
        _r(_TAGS),
        _r("ec2:DeleteInternetGateway"),
    ),
    "AWS::EC2::VPCGatewayAttachment": Rights(
        _ec2("internet-gateway"),
        _r(
            "ec2:AttachInternetGateway on internet-gateway InternetGatewayId",
            "ec2:AttachInternetGateway on vpc VpcId",
        ),
        _r(
            "ec2:AttachInternetGateway on internet-gateway InternetGatewayId",
            "ec2:AttachInternetGateway on vpc VpcId",
        ),
        _r(
            "ec2:DetachInternetGateway on internet-gateway InternetGatewayId",
            "ec2:DetachInternetGateway on vpc VpcId",
        ),
    ),
    "AWS::EC2::SecurityGroupIngress": Rights(
        _ec2("security-group"),
        _r("ec2:AuthorizeSecurityGroupIngress on security-group GroupId"),
        _r("ec2:AuthorizeSecurityGroupIngress on security-group GroupId"),
        _r("ec2:RevokeSecurityGroupIngress on security-group GroupId"),
    ),
    "AWS::EC2::SecurityGroupEgress": Rights(
        _ec2("security-group"),
        _r(
            "ec2:AuthorizeSecurityGroupEgress on security-group GroupId",
            "ec2:RevokeSecurityGroupEgress on security-group GroupId",
        ),
        _r("ec2:AuthorizeSecurityGroupEgress on security-group GroupId"),
        _r("ec2:RevokeSecurityGroupEgress on security-group GroupId"),
    ),
    "AWS::EC2::EIP": Rights(
        _ec2("elastic-ip"), _r("ec2:AllocateAddress", _TAGS), _r(_TAGS), _r("ec2:ReleaseAddress")
    ),
    "AWS::EC2::NatGateway": Rights(
        _ec2("natgateway"),
        _r(
            "ec2:CreateNatGateway",
            "ec2:CreateNatGateway on subnet SubnetId",
            "ec2:CreateNatGateway on elastic-ip AllocationId",
            _TAGS,
        ),
        _r(_TAGS),
        _r("ec2:DeleteNatGateway"),
    ),
    "AWS::EC2::FlowLog": Rights(
        _ec2("vpc-flow-log"),
        _r(
            "ec2:CreateFlowLogs",
            "ec2:CreateFlowLogs on vpc ResourceId",
            "logs:CreateLogDelivery",
            _TAGS,
        ),
        _r(_TAGS),
        _r("ec2:DeleteFlowLogs", "logs:DeleteLogDelivery"),
    ),
    "AWS::EC2::LaunchTemplate": Rights(
        _ec2("launch-template"),
        _r("ec2:CreateLaunchTemplate", "ec2:CreateTags if TagSpecifications"),
        _r("ec2:CreateLaunchTemplateVersion"),
        _r("ec2:DeleteLaunchTemplate"),
    ),
    "AWS::S3::Bucket": Rights(
        _bucket, _r("s3:CreateBucket", *_BUCKET_PARTS), _r(*_BUCKET_PARTS), _r("s3:DeleteBucket")
    ),
    "AWS::S3::BucketPolicy": Rights(
        _bucket, _r("s3:PutBucketPolicy"), _r("s3:PutBucketPolicy"), _r("s3:DeleteBucketPolicy")
    ),
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
            "lambda:CreateFunction",
            "lambda:PutFunctionConcurrency if ReservedConcurrentExecutions",
            "lambda:TagResource if Tags",
        ),
        _r(
            "lambda:UpdateFunctionConfiguration",
            "lambda:UpdateFunctionCode if Code",
            "lambda:PutFunctionConcurrency if ReservedConcurrentExecutions",
            "lambda:TagResource if Tags",
        ),
        _r("lambda:DeleteFunction"),
    ),
    "AWS::Lambda::Version": Rights(
        _function,
        _r("lambda:PublishVersion"),
        _r("lambda:PublishVersion"),
        _r("lambda:DeleteFunction"),
    ),
    "AWS::Lambda::Alias": Rights(
        _function, _r("lambda:CreateAlias"), _r("lambda:UpdateAlias"), _r("lambda:DeleteAlias")
    ),
    "AWS::Lambda::EventInvokeConfig": Rights(
        _function,
        _r("lambda:PutFunctionEventInvokeConfig"),
        _r("lambda:PutFunctionEventInvokeConfig"),
        _r("lambda:DeleteFunctionEventInvokeConfig"),
    ),
    "AWS::Lambda::Permission": Rights(
        _function,
        _r("lambda:AddPermission"),
        _r("lambda:AddPermission"),
        _r("lambda:RemovePermission"),
    ),
    "AWS::Lambda::LayerVersion": Rights(
        _named("lambda", "layer:", "LayerName"),
        _r("lambda:PublishLayerVersion"),
        _r("lambda:PublishLayerVersion"),
        _r("lambda:DeleteLayerVersion"),
    ),
    "AWS::Logs::LogGroup": Rights(
        _named("logs", "log-group:", "LogGroupName"),
        _r(
            "logs:CreateLogGroup",
            "logs:PutRetentionPolicy if RetentionInDays",
            "logs:TagResource if Tags",
        ),
        _r("logs:PutRetentionPolicy if RetentionInDays", "logs:TagResource if Tags"),
        _r("logs:DeleteLogGroup"),
    ),
    "AWS::Events::Rule": Rights(
        _named("events", "rule/", "Name"),
        _r("events:PutRule", "events:PutTargets if Targets", "events:TagResource if Tags"),
        _r("events:PutRule", "events:PutTargets if Targets", "events:TagResource if Tags"),
        _r("events:RemoveTargets if Targets", "events:DeleteRule"),
    ),
    "AWS::SQS::Queue": Rights(
        _named("sqs", "", "QueueName"),
        _r("sqs:CreateQueue", "sqs:TagQueue if Tags"),
        _r("sqs:SetQueueAttributes", "sqs:TagQueue if Tags"),
        _r("sqs:DeleteQueue"),
    ),
    "AWS::SQS::QueuePolicy": Rights(_listed("Queues", "sqs"), *3 * (_r("sqs:SetQueueAttributes"),)),
    "AWS::SNS::Topic": Rights(
        _named("sns", "", "TopicName"),
        _r("sns:CreateTopic", "sns:TagResource if Tags"),
        _r("sns:SetTopicAttributes", "sns:TagResource if Tags"),
        _r("sns:DeleteTopic"),
    ),
    "AWS::SNS::TopicPolicy": Rights(_listed("Topics", "sns"), *3 * (_r("sns:SetTopicAttributes"),)),
    "AWS::SNS::Subscription": Rights(
        lambda properties, _id, _account, _region: str(properties.get("TopicArn") or "*"),
        _r("sns:Subscribe"),
        _r("sns:GetSubscriptionAttributes"),
        _r("sns:Unsubscribe"),
    ),
    "AWS::Budgets::Budget": Rights(
        lambda properties, physical_id, account, _region: (
            f"arn:aws:budgets::{account}:budget/"
            f"{(properties.get('Budget') or {}).get('BudgetName') or physical_id}"
        ),
        _r("budgets:ModifyBudget", "budgets:ViewBudget"),
        _r("budgets:ModifyBudget", "budgets:ViewBudget"),
        _r("budgets:ModifyBudget"),
    ),
    "AWS::CloudWatch::Alarm": Rights(
        _named("cloudwatch", "alarm:", "AlarmName"),
        _r("cloudwatch:PutMetricAlarm", "cloudwatch:TagResource if Tags"),
        _r("cloudwatch:PutMetricAlarm", "cloudwatch:TagResource if Tags"),
        _r("cloudwatch:DeleteAlarms"),
    ),
}
