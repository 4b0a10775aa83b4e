"""Read resources through their own services, with the property names of CloudFormation.

A property that a reader does not return counts as lost, so a template cannot gain a property that
no reader checks.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from infra_bootstrap.stacks.concerns import DEPLOYMENT_TAG
from infra_bootstrap.stacks.resolving import Stage, canonical
from tests.infra_bootstrap.stacks.defaults import DEFAULTS, FACTS

Properties = Mapping[str, Any]
View = dict[str, Any]
Reader = Callable[[Stage, str, Properties], View]


class Resolver(Stage):
    """A deployed stack whose whole template is resolved, also functions that few properties use."""

    def _function(self, name: str, operand: Any) -> Any:
        if name == "Fn::Select":
            return self.resolve(operand[1])[int(operand[0])]
        if name == "Fn::Cidr":
            block, count, bits = (self.resolve(part) for part in operand)
            return [
                str(part)
                for part in list(ipaddress.ip_network(block).subnets(new_prefix=32 - int(bits)))[
                    : int(count)
                ]
            ]
        return super()._function(name, operand)

    def _attribute(self, logical_id: str, attribute: str) -> str:
        name, kind = self.physical[logical_id], self.resources[logical_id]["Type"]
        account, region = self.clients.account_id, self.clients.region
        if (kind, attribute) == ("AWS::EC2::EIP", "AllocationId"):
            return str(
                self.clients.ec2.describe_addresses(PublicIps=[name])["Addresses"][0][
                    "AllocationId"
                ]
            )
        found = {
            ("AWS::Lambda::Function", "Arn"): f"arn:aws:lambda:{region}:{account}:function:{name}",
            ("AWS::Events::Rule", "Arn"): f"arn:aws:events:{region}:{account}:rule/{name}",
            ("AWS::SQS::Queue", "QueueName"): name.rsplit("/", 1)[-1],
            ("AWS::Lambda::Version", "Version"): name.rsplit(":", 1)[-1],
        }.get((kind, attribute))
        return found if found is not None else super()._attribute(logical_id, attribute)


def differences(expected: Any, actual: Any, path: str = "") -> Iterator[str]:
    """List the template's properties that the service reports differently."""
    yield from _differences(canonical(expected), canonical(actual), path)


def _differences(expected: Any, actual: Any, path: str) -> Iterator[str]:
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key, value in expected.items():
            if key in actual:
                yield from _differences(value, actual[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}: not reported"
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for n, value in enumerate(expected):
            if not any(not list(_differences(value, other, path)) for other in actual):
                yield f"{path}[{n}]: {value} is not among {actual}"
    elif not _is_same(expected, actual):
        yield f"{path}: {expected!r} is reported as {actual!r}"


def additions(kind: str, wanted: Any, reported: Any) -> Iterator[str]:
    """List what the service reports as set although the template does not state it.

    An empty value is not set. A fact of the service and AWS's documented default do not count.

    :param kind: the type of the resource.
    """
    facts = FACTS.get(kind, frozenset())
    for path, value in _additions(canonical(wanted), canonical(reported), ""):
        default = canonical(DEFAULTS.get((kind, path)))
        if path not in facts and (default == "None" or not _is_same(default, value)):
            yield f"{path}={value}"


def _additions(wanted: Any, reported: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(wanted, dict) and isinstance(reported, dict):
        for key, value in reported.items():
            if key in wanted:
                yield from _additions(wanted[key], value, f"{path}.{key}")
            elif value not in ("", "None", "false", [], {}):
                yield f"{path}.{key}", value
    elif isinstance(wanted, list) or isinstance(reported, list):  # one item stands alone
        there = wanted if isinstance(wanted, list) else [wanted]
        for value in reported if isinstance(reported, list) else [reported]:
            near = [one for one in there if not list(_differences(one, value, ""))]
            more = [list(_additions(one, value, path)) for one in near]
            yield from min(more, key=len, default=[(path, value)])


def _is_same(expected: Any, actual: Any) -> bool:
    """Return whether two values are the same text or the same number."""
    try:
        return bool(expected == actual or float(expected) == float(actual))
    except (TypeError, ValueError):
        return False


def _document(text: Any) -> Any:
    return json.loads(text) if isinstance(text, str) else text


def _ours(tags: Any) -> list[dict[str, str]]:
    """Return tags as keys and values, without those that CloudFormation adds."""
    pairs = (
        tags.items()
        if isinstance(tags, Mapping)
        else [(tag["Key"], tag["Value"]) for tag in tags or ()]
    )
    return [{"Key": key, "Value": value} for key, value in pairs if not key.startswith("aws:")]


def with_stack_tags(wanted: Properties, environment: str) -> View:
    """Add the tag that CloudFormation gives to every taggable resource of a stack."""
    tags = [tag for tag in wanted.get("Tags", ()) if tag["Key"] != DEPLOYMENT_TAG]
    return {
        **wanted,
        **(
            {"Tags": [*tags, {"Key": DEPLOYMENT_TAG, "Value": environment}]}
            if tags or "Tags" in wanted
            else {}
        ),
    }


# ---- identities
def managed_policy(stage: Stage, arn: str, _: Properties) -> View:
    """AWS::IAM::ManagedPolicy."""
    iam = stage.clients.iam
    found = iam.get_policy(PolicyArn=arn)["Policy"]
    version = iam.get_policy_version(PolicyArn=arn, VersionId=found["DefaultVersionId"])[
        "PolicyVersion"
    ]
    roles = [
        role["RoleName"]
        for role in iam.list_entities_for_policy(
            PolicyArn=arn, PolicyUsageFilter="PermissionsPolicy"
        )["PolicyRoles"]
    ]
    return {
        "ManagedPolicyName": found["PolicyName"],
        "Description": found.get("Description"),
        "Roles": roles,
        "PolicyDocument": _document(version["Document"]),
    }


def role(stage: Stage, name: str, _: Properties) -> View:
    """AWS::IAM::Role."""
    iam = stage.clients.iam
    found = iam.get_role(RoleName=name)["Role"]
    inline = [
        {
            "PolicyName": policy,
            "PolicyDocument": iam.get_role_policy(RoleName=name, PolicyName=policy)[
                "PolicyDocument"
            ],
        }
        for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]
    ]
    return {
        "RoleName": found["RoleName"],
        "Description": found.get("Description"),
        "Tags": _ours(found.get("Tags")),
        "PermissionsBoundary": found.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn"),
        "AssumeRolePolicyDocument": found["AssumeRolePolicyDocument"],
        "Policies": inline,
        "MaxSessionDuration": found["MaxSessionDuration"],
    }


def instance_profile(stage: Stage, name: str, _: Properties) -> View:
    """AWS::IAM::InstanceProfile."""
    found = stage.clients.iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
    return {
        "InstanceProfileName": found["InstanceProfileName"],
        "Roles": [one["RoleName"] for one in found["Roles"]],
    }


# ---- network
def vpc(stage: Stage, vpc_id: str, _: Properties) -> View:
    """AWS::EC2::VPC."""
    ec2 = stage.clients.ec2
    found = ec2.describe_vpcs(VpcIds=[vpc_id])["Vpcs"][0]
    flags = {
        f"E{name[1:]}": ec2.describe_vpc_attribute(VpcId=vpc_id, Attribute=name)[f"E{name[1:]}"][
            "Value"
        ]
        for name in ("enableDnsSupport", "enableDnsHostnames")
    }
    return {"CidrBlock": found["CidrBlock"], **flags, "Tags": _ours(found["Tags"])}


def route_table(stage: Stage, table_id: str, _: Properties) -> View:
    """AWS::EC2::RouteTable."""
    found = stage.clients.ec2.describe_route_tables(RouteTableIds=[table_id])["RouteTables"][0]
    return {"VpcId": found["VpcId"], "Tags": _ours(found["Tags"])}


def subnet(stage: Stage, subnet_id: str, _: Properties) -> View:
    """AWS::EC2::Subnet."""
    found = stage.clients.ec2.describe_subnets(SubnetIds=[subnet_id])["Subnets"][0]
    kept = {
        name: found[name]
        for name in ("VpcId", "AvailabilityZone", "CidrBlock", "MapPublicIpOnLaunch")
    }
    return {**kept, "Tags": _ours(found["Tags"])}


def association(stage: Stage, association_id: str, _: Properties) -> View:
    """AWS::EC2::SubnetRouteTableAssociation."""
    tables = stage.clients.ec2.describe_route_tables()["RouteTables"]
    found = next(
        a
        for t in tables
        for a in t["Associations"]
        if a["RouteTableAssociationId"] == association_id
    )
    return {"SubnetId": found["SubnetId"], "RouteTableId": found["RouteTableId"]}


def endpoint(stage: Stage, endpoint_id: str, _: Properties) -> View:
    """AWS::EC2::VPCEndpoint."""
    found = stage.clients.ec2.describe_vpc_endpoints(VpcEndpointIds=[endpoint_id])["VpcEndpoints"][
        0
    ]
    kept = (
        "VpcId",
        "VpcEndpointType",
        "ServiceName",
        "RouteTableIds",
        "PrivateDnsEnabled",
        "SubnetIds",
    )
    return {
        **{name: found[name] for name in kept if name in found},
        "PolicyDocument": _document(found.get("PolicyDocument")),
        "SecurityGroupIds": [group["GroupId"] for group in found.get("Groups", ())],
        "Tags": _ours(found.get("Tags")),
    }


def security_group(stage: Stage, group_id: str, _: Properties) -> View:
    """AWS::EC2::SecurityGroup."""
    found = stage.clients.ec2.describe_security_groups(GroupIds=[group_id])["SecurityGroups"][0]
    return {
        "GroupDescription": found["Description"],
        "VpcId": found["VpcId"],
        "Tags": _ours(found["Tags"]),
        "SecurityGroupIngress": list(_rules(found["IpPermissions"], "Source")),
        "SecurityGroupEgress": list(_rules(found["IpPermissionsEgress"], "Destination")),
    }


def _rules(permissions: list[Properties], peer: str) -> Iterator[View]:
    """Yield a group's rules one by one."""
    for permission in permissions:
        ports = {
            name: permission[name]
            for name in ("IpProtocol", "FromPort", "ToPort")
            if name in permission
        }
        for member, here, there in (
            ("IpRanges", "CidrIp", "CidrIp"),
            ("Ipv6Ranges", "CidrIpv6", "CidrIpv6"),
            ("PrefixListIds", "PrefixListId", f"{peer}PrefixListId"),
            ("UserIdGroupPairs", "GroupId", f"{peer}SecurityGroupId"),
        ):
            for target in permission.get(member, ()):
                yield {**ports, there: target[here], "Description": target.get("Description")}


def ingress(stage: Stage, _: str, wanted: Properties) -> View:
    """AWS::EC2::SecurityGroupIngress."""
    return _rule_beside(stage, "SecurityGroupIngress", wanted)


def egress(stage: Stage, _: str, wanted: Properties) -> View:
    """AWS::EC2::SecurityGroupEgress."""
    return _rule_beside(stage, "SecurityGroupEgress", wanted)


def _rule_beside(stage: Stage, direction: str, wanted: Properties) -> View:
    """Find a rule that is a resource of its own by its first port."""
    group = security_group(stage, wanted["GroupId"], wanted)
    found = next(rule for rule in group[direction] if rule["FromPort"] == wanted["FromPort"])
    return {"GroupId": wanted["GroupId"], **found}


def flow_log(stage: Stage, log_id: str, _: Properties) -> View:
    """AWS::EC2::FlowLog."""
    found = stage.clients.ec2.describe_flow_logs(FlowLogIds=[log_id])["FlowLogs"][0]
    kept = (
        "ResourceId",
        "TrafficType",
        "LogDestinationType",
        "LogGroupName",
        "DeliverLogsPermissionArn",
    )
    kind = {"vpc-": "VPC", "subnet-": "Subnet"}[found["ResourceId"].partition("-")[0] + "-"]
    return {
        **{name: found[name] for name in kept},
        "ResourceType": kind,
        "Tags": _ours(found["Tags"]),
    }


def internet_gateway(stage: Stage, gateway_id: str, _: Properties) -> View:
    """AWS::EC2::InternetGateway."""
    found = stage.clients.ec2.describe_internet_gateways(InternetGatewayIds=[gateway_id])[
        "InternetGateways"
    ][0]
    return {"Tags": _ours(found["Tags"])}


def gateway_attachment(stage: Stage, _: str, wanted: Properties) -> View:
    """AWS::EC2::VPCGatewayAttachment."""
    gateway_id = wanted["InternetGatewayId"]
    found = stage.clients.ec2.describe_internet_gateways(InternetGatewayIds=[gateway_id])[
        "InternetGateways"
    ][0]
    return {
        "InternetGatewayId": found["InternetGatewayId"],
        "VpcId": found["Attachments"][0]["VpcId"],
    }


def address(stage: Stage, public_ip: str, _: Properties) -> View:
    """AWS::EC2::EIP."""
    found = stage.clients.ec2.describe_addresses(PublicIps=[public_ip])["Addresses"][0]
    return {"Domain": found["Domain"], "Tags": _ours(found["Tags"])}


def nat_gateway(stage: Stage, gateway_id: str, _: Properties) -> View:
    """AWS::EC2::NatGateway."""
    found = stage.clients.ec2.describe_nat_gateways(NatGatewayIds=[gateway_id])["NatGateways"][0]
    return {
        "SubnetId": found["SubnetId"],
        "AllocationId": found["NatGatewayAddresses"][0]["AllocationId"],
        "Tags": _ours(found["Tags"]),
    }


def route(stage: Stage, _: str, wanted: Properties) -> View:
    """AWS::EC2::Route."""
    found = stage.clients.ec2.describe_route_tables(RouteTableIds=[wanted["RouteTableId"]])[
        "RouteTables"
    ][0]
    there = next(
        r
        for r in found["Routes"]
        if r.get("DestinationCidrBlock") == wanted["DestinationCidrBlock"]
    )
    return {"RouteTableId": found["RouteTableId"], **there}


# ---- storage
def bucket(stage: Stage, name: str, _: Properties) -> View:
    """AWS::S3::Bucket."""
    s3 = stage.clients.s3
    rules = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
    encryption = [
        {
            "ServerSideEncryptionByDefault": rule["ApplyServerSideEncryptionByDefault"],
            "BucketKeyEnabled": rule["BucketKeyEnabled"],
        }
        for rule in rules
    ]
    events = "EventBridgeConfiguration" in s3.get_bucket_notification_configuration(Bucket=name)
    lifecycle = s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    return {
        "BucketName": name,
        "VersioningConfiguration": {"Status": s3.get_bucket_versioning(Bucket=name)["Status"]},
        "BucketEncryption": {"ServerSideEncryptionConfiguration": encryption},
        "PublicAccessBlockConfiguration": s3.get_public_access_block(Bucket=name)[
            "PublicAccessBlockConfiguration"
        ],
        "OwnershipControls": {
            "Rules": s3.get_bucket_ownership_controls(Bucket=name)["OwnershipControls"]["Rules"]
        },
        "NotificationConfiguration": {"EventBridgeConfiguration": {"EventBridgeEnabled": events}},
        "LifecycleConfiguration": {"Rules": [_lifecycle(rule) for rule in lifecycle]},
        "Tags": _ours(s3.get_bucket_tagging(Bucket=name)["TagSet"]),
    }


def _lifecycle(rule: Properties) -> View:
    """Return a lifecycle rule with the template's names."""
    view: View = {
        "Id": rule["ID"],
        "Status": rule["Status"],
        "Prefix": rule.get("Filter", {}).get("Prefix", ""),
    }
    expiration = rule.get("Expiration", {})
    view |= {"ExpirationInDays": expiration["Days"]} if "Days" in expiration else {}
    view |= (
        {"ExpiredObjectDeleteMarker": True} if expiration.get("ExpiredObjectDeleteMarker") else {}
    )
    kept = ("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload")
    view |= {name: rule[name] for name in kept if name in rule}
    moves = [
        {"StorageClass": m["StorageClass"], "TransitionInDays": m["Days"]}
        for m in rule.get("Transitions", ())
    ]
    return view | ({"Transitions": moves} if moves else {})


def bucket_policy(stage: Stage, _: str, wanted: Properties) -> View:
    """AWS::S3::BucketPolicy."""
    return {
        "Bucket": wanted["Bucket"],
        "PolicyDocument": _document(
            stage.clients.s3.get_bucket_policy(Bucket=wanted["Bucket"])["Policy"]
        ),
    }


def _is_stored(stage: Stage, place: Properties, digest: str) -> bool:
    """Return whether the object that a template names has this base64 SHA-256."""
    body = stage.clients.s3.get_object(Bucket=place["S3Bucket"], Key=place["S3Key"])["Body"].read()
    return base64.b64encode(hashlib.sha256(body).digest()).decode() == digest


# ---- machines
def launch_template(stage: Stage, template_id: str, _: Properties) -> View:
    """AWS::EC2::LaunchTemplate."""
    ec2 = stage.clients.ec2
    found = ec2.describe_launch_templates(LaunchTemplateIds=[template_id])["LaunchTemplates"][0]
    newest = ec2.describe_launch_template_versions(
        LaunchTemplateId=template_id, Versions=["$Latest"]
    )["LaunchTemplateVersions"][0]
    tags = [{"ResourceType": "launch-template", "Tags": _ours(found.get("Tags"))}]
    return {
        "LaunchTemplateName": found["LaunchTemplateName"],
        "LaunchTemplateData": newest["LaunchTemplateData"],
        "VersionDescription": newest.get("VersionDescription"),
        "TagSpecifications": tags,
    }


# ---- functions
def layer(stage: Stage, arn: str, wanted: Properties) -> View:
    """AWS::Lambda::LayerVersion."""
    found = stage.clients.client("lambda").get_layer_version_by_arn(Arn=arn)
    kept = {
        name: found[name]
        for name in ("Description", "CompatibleRuntimes", "CompatibleArchitectures")
    }
    content = (
        wanted["Content"]
        if _is_stored(stage, wanted["Content"], found["Content"]["CodeSha256"])
        else "another"
    )
    return {**kept, "LayerName": found["LayerArn"].rsplit(":", 1)[-1], "Content": content}


def function(stage: Stage, name: str, wanted: Properties) -> View:
    """AWS::Lambda::Function."""
    found = stage.clients.client("lambda").get_function(FunctionName=name)
    config = found["Configuration"]
    kept = (
        "FunctionName",
        "Description",
        "Runtime",
        "Architectures",
        "Handler",
        "Role",
        "MemorySize",
        "EphemeralStorage",
        "Timeout",
        "DeadLetterConfig",
        "TenancyConfig",
        "Environment",
    )
    view = {name: config[name] for name in kept if name in config}
    view |= {
        "ReservedConcurrentExecutions": found.get("Concurrency", {}).get(
            "ReservedConcurrentExecutions"
        )
    }
    view |= {
        "Layers": [layer["Arn"] for layer in config.get("Layers", ())],
        "Tags": _ours(found.get("Tags", {})),
    }
    return view | {
        "Code": wanted["Code"]
        if _is_stored(stage, wanted["Code"], config["CodeSha256"])
        else "another"
    }


def version(stage: Stage, arn: str, _: Properties) -> View:
    """AWS::Lambda::Version."""
    found = stage.clients.client("lambda").get_function(FunctionName=arn)["Configuration"]
    return {"FunctionName": found["FunctionName"], "Description": found["Description"]}


def alias(stage: Stage, arn: str, _: Properties) -> View:
    """AWS::Lambda::Alias."""
    name, _, alias_name = arn.partition(":function:")[2].partition(":")
    found = stage.clients.client("lambda").get_alias(FunctionName=name, Name=alias_name)
    return {
        "Name": found["Name"],
        "FunctionVersion": found["FunctionVersion"],
        "FunctionName": found["AliasArn"].split(":function:")[1].split(":")[0],
    }


def asynchronous(stage: Stage, _: str, wanted: Properties) -> View:
    """AWS::Lambda::EventInvokeConfig."""
    found = stage.clients.client("lambda").get_function_event_invoke_config(
        FunctionName=wanted["FunctionName"], Qualifier=wanted["Qualifier"]
    )
    _, _, named = found["FunctionArn"].partition(":function:")
    return {**found, "FunctionName": named.split(":")[0], "Qualifier": named.split(":")[1]}


def permission(stage: Stage, _: str, wanted: Properties) -> View:
    """AWS::Lambda::Permission."""
    name, _, qualifier = str(wanted["FunctionName"]).rpartition(":function:")[2].partition(":")
    where = {"FunctionName": name, **({"Qualifier": qualifier} if qualifier else {})}
    statements = json.loads(stage.clients.client("lambda").get_policy(**where)["Policy"])[
        "Statement"
    ]
    found = next(
        s for s in statements if s["Condition"]["ArnLike"]["AWS:SourceArn"] == wanted["SourceArn"]
    )
    return {
        "FunctionName": wanted["FunctionName"]
        if found["Resource"].endswith(f":{qualifier or name}")
        else found["Resource"],
        "Action": found["Action"],
        "Principal": found["Principal"]["Service"],
        "SourceArn": found["Condition"]["ArnLike"]["AWS:SourceArn"],
        "SourceAccount": found["Condition"].get("StringEquals", {}).get("AWS:SourceAccount"),
    }


# ---- events, messages and alarms
def rule(stage: Stage, name: str, _: Properties) -> View:
    """AWS::Events::Rule."""
    events = stage.clients.client("events")
    found = events.describe_rule(Name=name)
    view = {
        key: found[key]
        for key in ("Name", "Description", "ScheduleExpression", "State")
        if key in found
    }
    view |= {"EventPattern": json.loads(found["EventPattern"])} if found.get("EventPattern") else {}
    return view | {
        "Targets": events.list_targets_by_rule(Rule=name)["Targets"],
        "Tags": _ours(events.list_tags_for_resource(ResourceARN=found["Arn"])["Tags"]),
    }


def queue(stage: Stage, url: str, _: Properties) -> View:
    """AWS::SQS::Queue."""
    sqs = stage.clients.client("sqs")
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return {
        **found,
        "QueueName": found["QueueArn"].rsplit(":", 1)[-1],
        "Tags": _ours(sqs.list_queue_tags(QueueUrl=url).get("Tags")),
    }


def queue_policy(stage: Stage, _: str, wanted: Properties) -> View:
    """AWS::SQS::QueuePolicy."""
    (url,) = wanted["Queues"]
    found = stage.clients.client("sqs").get_queue_attributes(
        QueueUrl=url, AttributeNames=["Policy"]
    )["Attributes"]
    return {"Queues": [url], "PolicyDocument": _document(found["Policy"])}


def topic(stage: Stage, arn: str, _: Properties) -> View:
    """AWS::SNS::Topic."""
    sns = stage.clients.client("sns")
    found = sns.get_topic_attributes(TopicArn=arn)["Attributes"]
    return {
        "TopicName": found["TopicArn"].rsplit(":", 1)[-1],
        "Tags": _ours(sns.list_tags_for_resource(ResourceArn=arn)["Tags"]),
    }


def topic_policy(stage: Stage, _: str, wanted: Properties) -> View:
    """AWS::SNS::TopicPolicy."""
    (arn,) = wanted["Topics"]
    found = stage.clients.client("sns").get_topic_attributes(TopicArn=arn)["Attributes"]
    return {"Topics": [found["TopicArn"]], "PolicyDocument": _document(found["Policy"])}


def subscription(stage: Stage, _: str, wanted: Properties) -> View:
    """AWS::SNS::Subscription."""
    found = stage.clients.client("sns").list_subscriptions_by_topic(TopicArn=wanted["TopicArn"])[
        "Subscriptions"
    ]
    return next(dict(one) for one in found if one["Protocol"] == wanted["Protocol"])


def alarm(stage: Stage, name: str, _: Properties) -> View:
    """AWS::CloudWatch::Alarm."""
    return dict(
        stage.clients.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"][0]
    )


def log_group(stage: Stage, name: str, _: Properties) -> View:
    """AWS::Logs::LogGroup."""
    logs = stage.clients.client("logs")
    found = next(
        g
        for g in logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
        if g["logGroupName"] == name
    )
    tags = logs.list_tags_for_resource(resourceArn=found["arn"].removesuffix(":*"))["tags"]
    return {
        "LogGroupName": found["logGroupName"],
        "RetentionInDays": found["retentionInDays"],
        "Tags": _ours(tags),
    }


def budget(stage: Stage, name: str, _: Properties) -> View:
    """AWS::Budgets::Budget."""
    budgets, where = (
        stage.clients.client("budgets"),
        {"AccountId": stage.clients.account_id, "BudgetName": name},
    )
    notes = [
        {
            "Notification": note,
            "Subscribers": budgets.describe_subscribers_for_notification(
                **where, Notification=note
            )["Subscribers"],
        }
        for note in budgets.describe_notifications_for_budget(**where)["Notifications"]
    ]
    described = dict(budgets.describe_budget(**where)["Budget"])
    end = described.pop("TimePeriod")["End"]  # it starts in the month in which it was made
    return {
        "Budget": {**described, "TimePeriod.End": end},
        "NotificationsWithSubscribers": notes,
    }


READERS: dict[str, Reader] = {
    "AWS::Budgets::Budget": budget,
    "AWS::CloudWatch::Alarm": alarm,
    "AWS::EC2::EIP": address,
    "AWS::EC2::FlowLog": flow_log,
    "AWS::EC2::InternetGateway": internet_gateway,
    "AWS::EC2::LaunchTemplate": launch_template,
    "AWS::EC2::NatGateway": nat_gateway,
    "AWS::EC2::Route": route,
    "AWS::EC2::RouteTable": route_table,
    "AWS::EC2::SecurityGroup": security_group,
    "AWS::EC2::SecurityGroupEgress": egress,
    "AWS::EC2::SecurityGroupIngress": ingress,
    "AWS::EC2::Subnet": subnet,
    "AWS::EC2::SubnetRouteTableAssociation": association,
    "AWS::EC2::VPC": vpc,
    "AWS::EC2::VPCEndpoint": endpoint,
    "AWS::EC2::VPCGatewayAttachment": gateway_attachment,
    "AWS::Events::Rule": rule,
    "AWS::IAM::InstanceProfile": instance_profile,
    "AWS::IAM::ManagedPolicy": managed_policy,
    "AWS::IAM::Role": role,
    "AWS::Lambda::Alias": alias,
    "AWS::Lambda::EventInvokeConfig": asynchronous,
    "AWS::Lambda::Function": function,
    "AWS::Lambda::LayerVersion": layer,
    "AWS::Lambda::Permission": permission,
    "AWS::Lambda::Version": version,
    "AWS::Logs::LogGroup": log_group,
    "AWS::S3::Bucket": bucket,
    "AWS::S3::BucketPolicy": bucket_policy,
    "AWS::SNS::Subscription": subscription,
    "AWS::SNS::Topic": topic,
    "AWS::SNS::TopicPolicy": topic_policy,
    "AWS::SQS::Queue": queue,
    "AWS::SQS::QueuePolicy": queue_policy,
}
