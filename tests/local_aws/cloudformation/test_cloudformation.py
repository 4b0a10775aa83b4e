"""Services report every property of a template, and CloudFormation's refusals are reproduced."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.local_aws.conftest import (
    ACCOUNT,
    LocalAwsUnderTest,
    allow,
    policy,
    trust,
    unique,
    until,
    zipped,
)

TEMPLATE = Path(__file__).with_name("everything.yaml")
Read = Callable[..., Any]


def deploy(
    aws: LocalAwsUnderTest,
    body: str,
    stack: str | None = None,
    session: boto3.Session | None = None,
    **request: Any,
) -> tuple[str, str]:
    """Create or update a stack through a change set; return its name and its final status."""
    cloudformation, name, change = (
        aws.client("cloudformation", session),
        stack or unique("stack"),
        unique("change"),
    )
    exists = stack is not None
    cloudformation.create_change_set(
        StackName=name,
        ChangeSetName=change,
        ChangeSetType="UPDATE" if exists else "CREATE",
        TemplateBody=body,
        Capabilities=["CAPABILITY_NAMED_IAM"],
        **request,
    )
    waiter = cloudformation.get_waiter("change_set_create_complete")
    waiter.wait(StackName=name, ChangeSetName=change, WaiterConfig={"Delay": 1, "MaxAttempts": 20})
    cloudformation.execute_change_set(StackName=name, ChangeSetName=change)
    return name, await_stack(aws, name)


def await_stack(aws: LocalAwsUnderTest, name: str) -> str:
    """Wait until no operation of a stack is in progress; return its status."""
    cloudformation = aws.client("cloudformation")

    def status() -> str:
        found = str(cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"])
        return "" if found.endswith("IN_PROGRESS") else found

    return str(until(status, f"{name} is at rest"))


def why(aws: LocalAwsUnderTest, name: str) -> str:
    """Return the reasons of all failures in a stack."""
    events = aws.client("cloudformation").describe_stack_events(StackName=name)["StackEvents"]
    return " | ".join(
        e.get("ResourceStatusReason", "") for e in events if "FAILED" in e["ResourceStatus"]
    )


def outputs(aws: LocalAwsUnderTest, name: str) -> dict[str, str]:
    """Return a stack's outputs."""
    found = (
        aws.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0].get("Outputs", [])
    )
    return {o["OutputKey"]: o["OutputValue"] for o in found}


@pytest.fixture(scope="module")
def everything(aws: LocalAwsUnderTest) -> dict[str, str]:
    """A stack with every type and every property that the project's templates use."""
    bucket = aws.bucket()
    aws.client("s3").put_object(
        Bucket=bucket, Key="code.zip", Body=zipped({"index.py": "def handler(e, c): return 1\n"})
    )
    aws.client("s3").put_object(
        Bucket=bucket, Key="layer.zip", Body=zipped({"python/a.py": "N = 1\n"})
    )
    runtime = aws.cli("status")["lambda_runtimes"][0]
    parameters = {"Name": unique("all"), "CodeBucket": bucket, "Runtime": runtime}
    name, status = deploy(
        aws,
        TEMPLATE.read_text(),
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
    )
    assert status == "CREATE_COMPLETE", why(aws, name)
    return {**outputs(aws, name), "Stack": name, "Name": parameters["Name"], "CodeBucket": bucket}


def test_roles_keep_their_boundary_policies_and_tags(
    aws: LocalAwsUnderTest, everything: dict[str, str]
) -> None:
    """AWS::IAM::Role, ManagedPolicy and InstanceProfile keep their properties."""
    iam, name = aws.client("iam"), everything["Name"]
    role = iam.get_role(RoleName=name)["Role"]
    assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == everything["BoundaryArn"]
    assert role["Description"] == "does everything"
    assert role["MaxSessionDuration"] == 7200
    assert {"Key": "team", "Value": "blue"} in role["Tags"]
    assert (
        iam.get_role_policy(RoleName=name, PolicyName="inline")["PolicyDocument"]["Statement"][0][
            "Action"
        ]
        == "s3:GetObject"
    )
    assert [
        p["PolicyName"] for p in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
    ] == [f"{name}-managed"]
    assert everything["ProfileRef"] == name
    assert everything["ProfileArn"] == f"arn:aws:iam::{ACCOUNT}:instance-profile/{name}"
    assert (
        iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"][0][
            "RoleName"
        ]
        == name
    )


def test_the_bucket_has_all_that_was_asked_for(
    aws: LocalAwsUnderTest, everything: dict[str, str]
) -> None:
    """A bucket keeps its versioning, encryption, lifecycle, access block, tags and policy."""
    s3, bucket = aws.client("s3"), everything["Bucket"]
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    rule = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert rule["BucketKeyEnabled"] is True
    lifecycle = {r["ID"]: r for r in s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]}
    assert lifecycle["unfinished"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert lifecycle["logs"]["Expiration"] == {"Days": 90}
    assert lifecycle["logs"]["NoncurrentVersionExpiration"]["NoncurrentDays"] == 2
    assert lifecycle["logs"]["Filter"] == {"Prefix": "logs/"}
    assert all(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
    assert s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"] == [
        {"ObjectOwnership": "BucketOwnerEnforced"}
    ]
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == [{"Key": "team", "Value": "blue"}]
    assert "EventBridgeConfiguration" in s3.get_bucket_notification_configuration(Bucket=bucket)
    assert (
        json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"][0]["Sid"]
        == "TlsOnly"
    )


def test_the_key_encrypts_the_second_bucket(
    aws: LocalAwsUnderTest, everything: dict[str, str]
) -> None:
    """KMS encryption uses the ARN of the template's key."""
    rule = aws.client("s3").get_bucket_encryption(Bucket=everything["KmsBucket"])[
        "ServerSideEncryptionConfiguration"
    ]["Rules"][0]
    assert rule["ApplyServerSideEncryptionByDefault"] == {
        "SSEAlgorithm": "aws:kms",
        "KMSMasterKeyID": everything["KeyArn"],
    }


def test_the_network_is_as_described(aws: LocalAwsUnderTest, everything: dict[str, str]) -> None:
    """The VPC, its subnets, routes, endpoint, groups, flow log and NAT are as in the template."""
    ec2, vpc = aws.client("ec2"), everything["Vpc"]
    of_vpc = [{"Name": "vpc-id", "Values": [vpc]}]
    found = ec2.describe_vpcs(VpcIds=[vpc])["Vpcs"][0]
    assert (found["CidrBlock"], everything["VpcCidr"]) == ("10.7.0.0/16", "10.7.0.0/16")
    assert {"Key": "team", "Value": "blue"} in found["Tags"]
    assert (
        ec2.describe_vpc_attribute(VpcId=vpc, Attribute="enableDnsHostnames")["EnableDnsHostnames"][
            "Value"
        ]
        is True
    )
    subnet = ec2.describe_subnets(Filters=of_vpc)["Subnets"][0]
    assert (subnet["CidrBlock"], subnet["AvailabilityZone"], subnet["MapPublicIpOnLaunch"]) == (
        "10.7.0.0/21",
        "eu-west-1a",
        False,
    )
    endpoint = ec2.describe_vpc_endpoints(Filters=of_vpc)["VpcEndpoints"][0]
    assert endpoint["VpcEndpointType"] == "Gateway"
    assert json.loads(endpoint["PolicyDocument"])["Statement"][0]["Sid"] == "OnlyOurs"
    table = next(
        t
        for t in ec2.describe_route_tables(Filters=of_vpc)["RouteTables"]
        if t["RouteTableId"] == endpoint["RouteTableIds"][0]
    )
    assert [a["SubnetId"] for a in table["Associations"] if "SubnetId" in a] == [subnet["SubnetId"]]
    group = ec2.describe_security_groups(GroupIds=[everything["Group"]])["SecurityGroups"][0]
    assert [
        (p["FromPort"], p["IpRanges"][0]["CidrIp"], p["IpRanges"][0]["Description"])
        for p in group["IpPermissionsEgress"]
        if p.get("FromPort") == 443
    ] == [(443, "0.0.0.0/0", "out")]
    assert [(p["FromPort"], p["IpRanges"][0]["CidrIp"]) for p in group["IpPermissions"]] == [
        (22, "10.7.0.0/16")
    ]
    log = ec2.describe_flow_logs(Filters=[{"Name": "resource-id", "Values": [vpc]}])["FlowLogs"][0]
    assert (log["TrafficType"], log["LogGroupName"], log["LogDestinationType"]) == (
        "REJECT",
        everything["LogGroup"],
        "cloud-watch-logs",
    )
    assert log["DeliverLogsPermissionArn"].endswith("-flow")


def test_the_launch_template_keeps_every_member(
    aws: LocalAwsUnderTest, everything: dict[str, str]
) -> None:
    """The launch template keeps the types of its values, the disk's key, tags and user data."""
    version = aws.client("ec2").describe_launch_template_versions(
        LaunchTemplateId=everything["Template"], Versions=["$Latest"]
    )["LaunchTemplateVersions"][0]
    data = version["LaunchTemplateData"]
    options = {
        "HttpEndpoint": "enabled",
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
        "InstanceMetadataTags": "enabled",
    }
    assert data["MetadataOptions"].items() >= options.items()
    ebs = data["BlockDeviceMappings"][0]["Ebs"]
    assert (ebs["Encrypted"], ebs["VolumeSize"], ebs["VolumeType"], ebs["KmsKeyId"]) == (
        True,
        100,
        "gp3",
        everything["KeyArn"],
    )
    assert [t["ResourceType"] for t in data["TagSpecifications"]] == ["instance", "volume"]
    assert data["IamInstanceProfile"] == {"Arn": everything["ProfileArn"]}
    assert data["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert data["ImageId"] == aws.image()
    assert data["SecurityGroupIds"] == [everything["Group"]]
    assert version["VersionDescription"] == "first"


def test_the_function_keeps_every_setting(
    aws: LocalAwsUnderTest, everything: dict[str, str]
) -> None:
    """The function keeps its layer, limits, environment, alias, asynchronous settings and tags."""
    client, name = aws.client("lambda"), everything["Function"]
    found = client.get_function(FunctionName=name)
    config = found["Configuration"]
    assert (
        config["MemorySize"],
        config["Timeout"],
        config["EphemeralStorage"]["Size"],
        config["Architectures"],
    ) == (
        256,
        30,
        1024,
        ["x86_64"],
    )
    assert config["Environment"]["Variables"] == {"A": "B"}
    assert config["DeadLetterConfig"]["TargetArn"] == everything["QueueArn"]
    assert [layer["Arn"] for layer in config["Layers"]] == [everything["Layer"]]
    assert found["Concurrency"]["ReservedConcurrentExecutions"] == 3
    assert found["Tags"]["team"] == "blue"
    assert (
        client.get_alias(FunctionName=name, Name="live")["FunctionVersion"] == everything["Version"]
    )
    settings = client.get_function_event_invoke_config(FunctionName=name, Qualifier="live")
    assert (settings["MaximumRetryAttempts"], settings["MaximumEventAgeInSeconds"]) == (1, 3600)
    assert settings["DestinationConfig"]["OnFailure"]["Destination"] == everything["QueueArn"]
    statement = json.loads(client.get_policy(FunctionName=name, Qualifier="live")["Policy"])[
        "Statement"
    ][0]
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert json.loads(client.invoke(FunctionName=name, Qualifier="live")["Payload"].read()) == 1


def test_rules_queues_topics_alarms_and_the_rest(
    aws: LocalAwsUnderTest, everything: dict[str, str]
) -> None:
    """Rules, queues, topics, alarms, log groups, budgets and parameters keep their properties."""
    name = everything["Name"]
    events = aws.client("events")
    assert json.loads(events.describe_rule(Name=name)["EventPattern"])["detail"]["object"][
        "key"
    ] == [{"wildcard": "policies/*.json"}]
    assert events.describe_rule(Name=f"{name}-timer")["ScheduleExpression"] == "rate(15 minutes)"
    target = events.list_targets_by_rule(Rule=name)["Targets"][0]
    assert target["Arn"] == everything["Alias"]
    assert target["DeadLetterConfig"] == {"Arn": everything["QueueArn"]}
    attributes = aws.client("sqs").get_queue_attributes(
        QueueUrl=everything["Queue"], AttributeNames=["All"]
    )["Attributes"]
    assert (attributes["MessageRetentionPeriod"], attributes["SqsManagedSseEnabled"]) == (
        "1209600",
        "true",
    )
    assert json.loads(attributes["Policy"])["Statement"][0]["Sid"] == "TlsOnly"
    topic = aws.client("sns").get_topic_attributes(TopicArn=everything["Topic"])["Attributes"]
    assert json.loads(topic["Policy"])["Statement"][0]["Sid"] == "Alarms"
    alarm = aws.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"][0]
    assert (alarm["Threshold"], alarm["TreatMissingData"], alarm["AlarmActions"]) == (
        1.0,
        "notBreaching",
        [everything["Topic"]],
    )
    group = aws.client("logs").describe_log_groups(logGroupNamePrefix=everything["LogGroup"])[
        "logGroups"
    ][0]
    assert group["retentionInDays"] == 30
    budget = aws.client("budgets").describe_budget(AccountId=ACCOUNT, BudgetName=name)["Budget"]
    assert float(budget["BudgetLimit"]["Amount"]) == 10
    assert (
        aws.client("ssm").get_parameter(Name=f"/{name}/parameter")["Parameter"]["Value"] == "value"
    )


def test_an_update_adds_a_version_to_the_launch_template(
    aws: LocalAwsUnderTest, everything: dict[str, str]
) -> None:
    """An unchanged template is no change; another instance type makes version 2.

    The permissions boundary of the role is still there.
    """
    cloudformation = aws.client("cloudformation")
    parameters = [
        {"ParameterKey": k, "UsePreviousValue": True} for k in ("Name", "CodeBucket", "Runtime")
    ]
    request = {
        "StackName": everything["Stack"],
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
        "Parameters": parameters,
    }
    with pytest.raises(
        cloudformation.exceptions.ClientError, match="No updates are to be performed"
    ):
        cloudformation.update_stack(TemplateBody=TEMPLATE.read_text(), **request)
    _, status = deploy(
        aws,
        TEMPLATE.read_text().replace("InstanceType: c7i.large", "InstanceType: m7i.large"),
        everything["Stack"],
        Parameters=parameters,
    )
    assert status == "UPDATE_COMPLETE", why(aws, everything["Stack"])
    template = aws.client("ec2").describe_launch_templates(
        LaunchTemplateIds=[everything["Template"]]
    )["LaunchTemplates"][0]
    assert template["LatestVersionNumber"] == 2
    assert "PermissionsBoundary" in aws.client("iam").get_role(RoleName=everything["Name"])["Role"]


# --- What is refused ---


def resource(kind: str, **properties: Any) -> str:
    """Return a template with one resource."""
    return json.dumps({"Resources": {"It": {"Type": kind, "Properties": properties}}})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (resource("AWS::SQS::Queue", Colour="red"), "Colour"),
        (
            resource(
                "AWS::S3::Bucket",
                LifecycleConfiguration={"Rules": [{"Status": "Enabled", "Colour": 1}]},
            ),
            "Colour",
        ),
        (resource("AWS::EC2::FlowLog", ResourceId="vpc-1"), "ResourceType"),
        (
            resource(
                "AWS::Lambda::LayerVersion",
                Content={"S3Bucket": "no-such-bucket-here", "S3Key": "x"},
            ),
            "NoSuch",
        ),
        (
            resource(
                "AWS::Lambda::Function",
                Code={"ZipFile": "x"},
                Role="arn:aws:iam::123456789012:role/administrator",
                Handler="a.b",
                Runtime="python3.8",
            ),
            "python3.8",
        ),
    ],
)
def test_what_does_not_fit_its_type_fails_the_stack(
    aws: LocalAwsUnderTest, body: str, words: str
) -> None:
    """Unknown or missing properties, missing code and unavailable runtimes fail the stack."""
    name, status = deploy(aws, body)
    assert status in ("ROLLBACK_COMPLETE", "CREATE_FAILED")
    assert words in why(aws, name)


def test_undefined_references_and_missing_capabilities_are_refused_at_once(
    aws: LocalAwsUnderTest,
) -> None:
    """Such a template is refused before anything is created."""
    cloudformation = aws.client("cloudformation")
    role = resource(
        "AWS::IAM::Role",
        RoleName=unique("role"),
        AssumeRolePolicyDocument=json.loads(trust({"Service": "ec2.amazonaws.com"})),
    )
    with pytest.raises(cloudformation.exceptions.InsufficientCapabilitiesException):
        cloudformation.create_stack(StackName=unique("stack"), TemplateBody=role)
    undefined = json.dumps(
        {
            "Resources": {
                "It": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": {"Ref": "Nobody"}}}
            }
        }
    )
    with pytest.raises(cloudformation.exceptions.ClientError, match="Nobody"):
        cloudformation.create_stack(StackName=unique("stack"), TemplateBody=undefined)


def test_a_full_bucket_is_not_deleted(aws: LocalAwsUnderTest) -> None:
    """Deleting a full bucket is DELETE_FAILED with S3's message; after emptying, it succeeds."""
    bucket, cloudformation, s3 = unique("bucket"), aws.client("cloudformation"), aws.client("s3")
    name, _ = deploy(aws, resource("AWS::S3::Bucket", BucketName=bucket))
    s3.put_object(Bucket=bucket, Key="x", Body=b"")
    cloudformation.delete_stack(StackName=name)
    assert await_stack(aws, name) == "DELETE_FAILED"
    assert "not empty" in why(aws, name)
    s3.delete_object(Bucket=bucket, Key="x")
    cloudformation.delete_stack(StackName=name)
    until(
        lambda: bucket not in [b["Name"] for b in s3.list_buckets()["Buckets"]],
        "the bucket is gone",
    )


def test_the_service_roles_permissions_count(aws: LocalAwsUnderTest) -> None:
    """A stack can create only what its service role may create.

    The caller needs the permission to pass the role.
    """
    queue = unique("queue")
    deployer = aws.service_role(
        "cloudformation.amazonaws.com",
        allow(["sqs:CreateQueue", "sqs:DeleteQueue"], f"arn:aws:sqs:*:*:{queue}"),
    )
    arn = f"arn:aws:iam::{ACCOUNT}:role/{deployer}"
    allowed, status = deploy(aws, resource("AWS::SQS::Queue", QueueName=queue), RoleARN=arn)
    assert status == "CREATE_COMPLETE", why(aws, allowed)
    denied, status = deploy(
        aws, resource("AWS::SQS::Queue", QueueName=unique("other")), RoleARN=arn
    )
    assert status == "ROLLBACK_COMPLETE"
    assert "is not authorized to perform: sqs:CreateQueue" in why(aws, denied)
    caller = aws.role_with(allow("cloudformation:*"))
    with pytest.raises(aws.client("cloudformation").exceptions.ClientError, match="iam:PassRole"):
        aws.client("cloudformation", caller).create_stack(
            StackName=unique("stack"), TemplateBody=resource("AWS::SQS::Queue"), RoleARN=arn
        )


def test_a_bucket_is_not_made_without_the_right_to_tag_it(aws: LocalAwsUnderTest) -> None:
    """CloudFormation tags a bucket with s3:TagResource; without the right the stack fails."""
    bucket = unique("bucket")
    tags = [{"Key": "team", "Value": "rl"}]
    made = ["s3:CreateBucket", "s3:DeleteBucket", "s3:PutBucketTagging"]
    for actions, expected in (
        (made, "ROLLBACK_COMPLETE"),
        ([*made, "s3:TagResource"], "CREATE_COMPLETE"),
    ):
        deployer = aws.service_role(
            "cloudformation.amazonaws.com", allow(actions, f"arn:aws:s3:::{bucket}")
        )
        stack, status = deploy(
            aws,
            resource("AWS::S3::Bucket", BucketName=bucket, Tags=tags),
            RoleARN=f"arn:aws:iam::{ACCOUNT}:role/{deployer}",
        )
        assert status == expected, why(aws, stack)
        if expected == "ROLLBACK_COMPLETE":
            assert "is not authorized to perform: s3:TagResource" in why(aws, stack)


def test_a_flow_log_is_not_made_without_the_right_to_deliver_logs(aws: LocalAwsUnderTest) -> None:
    """A flow log is a delivery of logs, for which IAM knows no resource."""
    vpc = aws.client("ec2").create_vpc(CidrBlock="10.77.0.0/24")["Vpc"]["VpcId"]
    flow_log = resource(
        "AWS::EC2::FlowLog",
        ResourceType="VPC",
        ResourceId=vpc,
        TrafficType="REJECT",
        LogGroupName=unique("flow"),
    )
    deployer = aws.service_role(
        "cloudformation.amazonaws.com",
        allow("ec2:*"),
        allow("logs:*", "arn:aws:logs:*:*:log-group:*"),
    )
    stack, status = deploy(aws, flow_log, RoleARN=f"arn:aws:iam::{ACCOUNT}:role/{deployer}")
    assert status == "ROLLBACK_COMPLETE"
    assert "is not authorized to perform: logs:CreateLogDelivery on resource: *" in why(aws, stack)


def test_the_role_can_be_a_condition(aws: LocalAwsUnderTest) -> None:
    """With a condition on cloudformation:RoleArn, a call without that role is denied."""
    deployer = aws.service_role("cloudformation.amazonaws.com", allow("sqs:*"))
    arn = f"arn:aws:iam::{ACCOUNT}:role/{deployer}"
    caller = aws.role_with(
        allow("cloudformation:CreateStack", "*", {"StringEquals": {"cloudformation:RoleArn": arn}}),
        allow("cloudformation:Describe*"),
        allow("iam:PassRole", arn),
    )
    client = aws.client("cloudformation", caller)
    with pytest.raises(client.exceptions.ClientError, match="not authorized"):
        client.create_stack(StackName=unique("stack"), TemplateBody=resource("AWS::SQS::Queue"))
    name = unique("stack")
    client.create_stack(StackName=name, TemplateBody=resource("AWS::SQS::Queue"), RoleARN=arn)
    assert await_stack(aws, name) == "CREATE_COMPLETE"


def test_a_stack_without_a_role_acts_as_its_caller(aws: LocalAwsUnderTest) -> None:
    """Without a service role, the caller's own permissions count."""
    client = aws.client("cloudformation", aws.role_with(allow("cloudformation:*")))
    name = unique("stack")
    client.create_stack(StackName=name, TemplateBody=resource("AWS::SQS::Queue"))
    assert await_stack(aws, name) == "ROLLBACK_COMPLETE"


def test_exports_hold_stacks_together(aws: LocalAwsUnderTest) -> None:
    """ImportValue finds an export, and an imported export cannot be deleted."""
    export, cloudformation = unique("export"), aws.client("cloudformation")
    first, _ = deploy(
        aws,
        json.dumps(
            {
                "Resources": {"Q": {"Type": "AWS::SQS::Queue"}},
                "Outputs": {
                    "A": {"Value": {"Fn::GetAtt": ["Q", "Arn"]}, "Export": {"Name": export}}
                },
            }
        ),
    )
    second, status = deploy(
        aws,
        resource(
            "AWS::SSM::Parameter",
            Type="String",
            Name=f"/{export}",
            Value={"Fn::ImportValue": export},
        ),
    )
    assert status == "CREATE_COMPLETE", why(aws, second)
    with pytest.raises(cloudformation.exceptions.ClientError, match=export):
        cloudformation.delete_stack(StackName=first)


def test_policies_are_documents(aws: LocalAwsUnderTest) -> None:
    """A managed policy of a template can be attached, and its permissions count."""
    name = unique("policy")
    body = resource(
        "AWS::IAM::ManagedPolicy",
        ManagedPolicyName=name,
        Roles=["airflow-worker"],
        PolicyDocument=json.loads(policy(allow("s3:ListAllMyBuckets"))),
    )
    stack, status = deploy(aws, body)
    assert status == "CREATE_COMPLETE", why(aws, stack)
    assert aws.client("s3", aws.session("airflow-worker")).list_buckets()["Buckets"] is not None
    aws.client("cloudformation").delete_stack(StackName=stack)
