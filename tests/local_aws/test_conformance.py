"""Documented behaviours with their sources, checked against the local AWS or a real account.

With `LOCAL_AWS_CONFORMANCE=real`, the rows use the shell's own credentials and region. They then
create roles, buckets and queues, make dry runs, cost next to nothing, and need administrator rights
in an account for tests.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from botocore.exceptions import ClientError

from .conftest import QUICK, ROOT, code_of, policy, trust, unique, until

REAL = os.environ.get("LOCAL_AWS_CONFORMANCE") == "real"
DOCS = "https://docs.aws.amazon.com/"


class Account:
    """An account under test, with its clients and the clean-ups."""

    def __init__(self, client: Callable[[str], Any], region: str) -> None:
        self.client = client
        self.region = region
        self._clean: list[Callable[[], Any]] = []

    def later(self, undo: Callable[[], Any]) -> None:
        """Register a clean-up. Call it in the statement after the creation."""
        self._clean.append(undo)

    def clean(self) -> None:
        """Run the clean-ups, the last one first."""
        for undo in reversed(self._clean):
            undo()

    def bucket(self) -> tuple[Any, str]:
        """Create a bucket without versioning; return a client and its name."""
        s3, name = self.client("s3"), unique("conformance")
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": self.region})
        self.later(lambda: s3.delete_bucket(Bucket=name))
        self.later(
            lambda: [
                s3.delete_object(Bucket=name, Key=o["Key"])
                for o in s3.list_objects_v2(Bucket=name).get("Contents", [])
            ]
        )
        return s3, name


@pytest.fixture
def account(request: pytest.FixtureRequest) -> Iterator[Account]:
    """The local AWS, or the real account if the shell requests it."""
    if REAL:
        session = boto3.Session()
        made = Account(
            lambda service: session.client(service, config=QUICK), str(session.region_name)
        )  # type: ignore[call-overload]
    else:
        aws = request.getfixturevalue("aws")
        made = Account(aws.client, aws.region)
    yield made
    made.clean()


@dataclass(frozen=True)
class Row:
    """One behaviour.

    :param source: where AWS documents it.
    :param holds: raises an error or returns false if the behaviour does not hold.
    """

    name: str
    source: str
    holds: Callable[[Account], Any]


def if_none_match(account: Account) -> bool:
    """The second writer of a key is refused."""
    s3, bucket = account.bucket()
    s3.put_object(Bucket=bucket, Key="x", Body=b"1", IfNoneMatch="*")
    return (
        code_of(s3.put_object, Bucket=bucket, Key="x", Body=b"2", IfNoneMatch="*")
        == "PreconditionFailed"
    )


def if_match(account: Account) -> bool:
    """A write with an old ETag is refused; for a missing key, the error says so."""
    s3, bucket = account.bucket()
    tag = s3.put_object(Bucket=bucket, Key="x", Body=b"1")["ETag"]
    s3.put_object(Bucket=bucket, Key="x", Body=b"2", IfMatch=tag)
    stale = code_of(s3.put_object, Bucket=bucket, Key="x", Body=b"3", IfMatch=tag)
    return (stale, code_of(s3.put_object, Bucket=bucket, Key="absent", Body=b"", IfMatch=tag)) == (
        "PreconditionFailed",
        "NoSuchKey",
    )


def listing_is_sorted(account: Account) -> bool:
    """Keys are sorted by their bytes; each appears once over all pages."""
    s3, bucket = account.bucket()
    keys = ["b", "a/2", "a/10", "A", "a/1"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 2}
    )
    return [o["Key"] for page in pages for o in page["Contents"]] == sorted(keys)


def common_prefixes(account: Account) -> bool:
    """A delimiter groups the keys below it."""
    s3, bucket = account.bucket()
    for key in ("a/1", "a/2", "b"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    found = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    return (
        [p["Prefix"] for p in found["CommonPrefixes"]],
        [o["Key"] for o in found["Contents"]],
    ) == (["a/"], ["b"])


def full_bucket(account: Account) -> bool:
    """A bucket with an object is not deleted."""
    s3, bucket = account.bucket()
    s3.put_object(Bucket=bucket, Key="x", Body=b"")
    return code_of(s3.delete_bucket, Bucket=bucket) == "BucketNotEmpty"


def checksum(account: Account) -> bool:
    """A body with another digest than announced is refused."""
    s3, bucket = account.bucket()
    return (
        code_of(
            s3.put_object, Bucket=bucket, Key="x", Body=b"x", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg=="
        )
        == "BadDigest"
    )


def range_read(account: Account) -> bool:
    """A range is answered with 206 and that part."""
    s3, bucket = account.bucket()
    s3.put_object(Bucket=bucket, Key="x", Body=b"0123456789")
    found = s3.get_object(Bucket=bucket, Key="x", Range="bytes=2-4")
    return (found["ResponseMetadata"]["HTTPStatusCode"], found["Body"].read()) == (206, b"234")


def presigned(account: Account) -> bool:
    """A presigned URL gives access to one object."""
    s3, bucket = account.bucket()
    s3.put_object(Bucket=bucket, Key="x", Body=b"x")
    url = s3.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": "x"}, ExpiresIn=60
    )
    return requests.get(url, timeout=10).content == b"x"


def malformed_policy(account: Account) -> bool:
    """A trust policy that is not a policy is refused."""
    return (
        code_of(
            account.client("iam").create_role,
            RoleName=unique("role"),
            AssumeRolePolicyDocument="{}",
        )
        == "MalformedPolicyDocument"
    )


def malformed_trust(account: Account) -> bool:
    """A trust policy needs a principal and STS actions, and must not name a resource."""
    good = {
        "Effect": "Allow",
        "Principal": {"Service": "ec2.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    bad = [
        {k: v for k, v in good.items() if k != "Principal"},
        {**good, "Action": "s3:GetObject"},
        {**good, "Resource": "*"},
    ]
    iam = account.client("iam")
    codes = {
        code_of(iam.create_role, RoleName=unique("role"), AssumeRolePolicyDocument=policy(one))
        for one in bad
    }
    return codes == {"MalformedPolicyDocument"}


def malformed_identity_policy(account: Account) -> bool:
    """A role's own policy must not have a principal, and needs an action."""
    iam, name = account.client("iam"), unique("role")
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust({"Service": "ec2.amazonaws.com"}))
    account.later(lambda: iam.delete_role(RoleName=name))
    bad = [
        "{}",
        policy({"Effect": "Allow", "Resource": "*"}),
        policy({"Effect": "Perhaps", "Action": "*", "Resource": "*"}),
    ]
    codes = {
        code_of(iam.put_role_policy, RoleName=name, PolicyName="p", PolicyDocument=text)
        for text in bad
    }
    return codes == {"MalformedPolicyDocument"}


def role_twice(account: Account) -> bool:
    """A role's name can be used once."""
    iam, name = account.client("iam"), unique("role")
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust({"Service": "ec2.amazonaws.com"}))
    account.later(lambda: iam.delete_role(RoleName=name))
    return (
        code_of(
            iam.create_role,
            RoleName=name,
            AssumeRolePolicyDocument=trust({"Service": "ec2.amazonaws.com"}),
        )
        == "EntityAlreadyExists"
    )


def role_in_use(account: Account) -> bool:
    """A role with an inline policy is not deleted."""
    iam, name = account.client("iam"), unique("role")
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust({"Service": "ec2.amazonaws.com"}))
    account.later(lambda: iam.delete_role(RoleName=name))
    iam.put_role_policy(
        RoleName=name,
        PolicyName="p",
        PolicyDocument=policy({"Effect": "Deny", "Action": "*", "Resource": "*"}),
    )
    account.later(lambda: iam.delete_role_policy(RoleName=name, PolicyName="p"))
    return code_of(iam.delete_role, RoleName=name) == "DeleteConflict"


def dry_run(account: Account) -> bool:
    """A dry run answers with an error that says the result."""
    ec2 = account.client("ec2")
    image = ec2.describe_images(
        Owners=["amazon"],
        Filters=[{"Name": "name", "Values": ["Deep Learning Base OSS*Ubuntu 24.04*"]}],
    )["Images"][0]["ImageId"]
    return (
        code_of(
            ec2.run_instances,
            ImageId=image,
            InstanceType="c7i.large",
            MinCount=1,
            MaxCount=1,
            DryRun=True,
        )
        == "DryRunOperation"
    )


def unknown_instance(account: Account) -> bool:
    """An unknown id and a malformed id have different errors."""
    ec2 = account.client("ec2")
    codes = [
        code_of(ec2.describe_instances, InstanceIds=[given])
        for given in ("i-0123456789abcdef0", "x")
    ]
    return codes == ["InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"]


def ids_and_pages(account: Account) -> bool:
    """Ids and a page size cannot be combined."""
    ec2 = account.client("ec2")
    return (
        code_of(ec2.describe_instances, InstanceIds=["i-0123456789abcdef0"], MaxResults=5)
        == "InvalidParameterCombination"
    )


def unknown_filter(account: Account) -> bool:
    """An unknown filter is refused."""
    return (
        code_of(
            account.client("ec2").describe_instances,
            Filters=[{"Name": "colour", "Values": ["red"]}],
        )
        == "InvalidParameterValue"
    )


def many_values(account: Account) -> bool:
    """The filters of one call have at most 200 values."""
    ec2, names = account.client("ec2"), [f"i-{number:017x}" for number in range(201)]
    ec2.describe_instances(Filters=[{"Name": "instance-id", "Values": names[1:]}])
    return (
        code_of(ec2.describe_instances, Filters=[{"Name": "instance-id", "Values": names}])
        == "FilterLimitExceeded"
    )


def unknown_type(account: Account) -> bool:
    """An unknown instance type is refused."""
    return (
        code_of(account.client("ec2").describe_instance_types, InstanceTypes=["zz9.large"])
        == "InvalidInstanceType"
    )


def stack_without_capability(account: Account) -> bool:
    """A template with IAM resources needs a capability."""
    body = (
        '{"Resources":{"R":{"Type":"AWS::IAM::Role","Properties":{"AssumeRolePolicyDocument":{}}}}}'
    )
    return (
        code_of(
            account.client("cloudformation").create_stack,
            StackName=unique("stack"),
            TemplateBody=body,
        )
        == "InsufficientCapabilitiesException"
    )


def stack_unknown(account: Account) -> bool:
    """An unknown stack is a validation error whose message says so."""
    with pytest.raises(ClientError, match="does not exist"):
        account.client("cloudformation").describe_stacks(StackName=unique("stack"))
    return True


def unresolved_reference(account: Account) -> bool:
    """An unresolved reference is refused before anything is created."""
    body = (
        '{"Resources":{"Q":{"Type":"AWS::SQS::Queue","Properties":{"QueueName":{"Ref":"Nobody"}}}}}'
    )
    with pytest.raises(ClientError, match=re.escape("Unresolved resource dependencies [Nobody]")):
        account.client("cloudformation").create_stack(StackName=unique("stack"), TemplateBody=body)
    return True


def function_unknown(account: Account) -> bool:
    """An unknown function is refused."""
    return (
        code_of(account.client("lambda").invoke, FunctionName=unique("function"))
        == "ResourceNotFoundException"
    )


def queue_delivers(account: Account) -> bool:
    """A sent message is received with its digest."""
    sqs = account.client("sqs")
    url = sqs.create_queue(QueueName=unique("queue"))["QueueUrl"]
    account.later(lambda: sqs.delete_queue(QueueUrl=url))
    sqs.send_message(QueueUrl=url, MessageBody="x")
    found = until(
        lambda: sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1).get("Messages"), "the message"
    )
    return bool(found[0]["MD5OfBody"] == "9dd4e461268c8034f5c8564e155c67a6")


def parameter_of_aws(account: Account) -> bool:
    """AWS's public parameters belong to no account."""
    name = (
        "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
    )
    found = account.client("ssm").get_parameter(Name=name)["Parameter"]
    return bool(
        found["ARN"] == f"arn:aws:ssm:{account.region}::parameter{name}"
        and found["Value"].startswith("ami-")
    )


def chained_session(account: Account) -> bool:
    """A session that was assumed from a session lives for at most one hour."""
    sts = account.client("sts")
    assert ":assumed-role/" in sts.get_caller_identity()["Arn"], (
        "run the table as a role: nothing is chained otherwise"
    )
    arn = re.sub(
        r":sts:(.*):assumed-role/([^/]+)/.*", r":iam:\1:role/\2", sts.get_caller_identity()["Arn"]
    )
    return code_of(sts.assume_role, RoleArn=arn, RoleSessionName="test", DurationSeconds=7200) in (
        "ValidationError",
        "AccessDenied",
    )


def refuses(service: str, call: str, code: str, **arguments: Any) -> Callable[[Account], bool]:
    """Return a row that makes one call, which must be refused with a code."""
    return lambda account: code_of(getattr(account.client(service), call), **arguments) == code


def bucket_refuses(call: str, code: str, **arguments: Any) -> Callable[[Account], bool]:
    """Return a row that makes one call on an empty bucket, which must be refused with a code."""

    def row(account: Account) -> bool:
        s3, bucket = account.bucket()
        return code_of(getattr(s3, call), Bucket=bucket, **arguments) == code

    return row


def range_beyond(account: Account) -> bool:
    """A range that begins after the end is refused."""
    s3, bucket = account.bucket()
    s3.put_object(Bucket=bucket, Key="x", Body=b"0123")
    return code_of(s3.get_object, Bucket=bucket, Key="x", Range="bytes=9-") == "InvalidRange"


def vpc_of(account: Account) -> tuple[Any, str]:
    """Create a VPC; return a client and its id."""
    ec2 = account.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
    account.later(lambda: ec2.delete_vpc(VpcId=vpc))
    return ec2, vpc


def subnets_fit(account: Account) -> bool:
    """A subnet lies within its VPC and does not overlap another subnet."""
    ec2, vpc = vpc_of(account)
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.20.1.0/24")["Subnet"]["SubnetId"]
    account.later(lambda: ec2.delete_subnet(SubnetId=subnet))
    codes = [
        code_of(ec2.create_subnet, VpcId=vpc, CidrBlock=block)
        for block in ("10.21.0.0/24", "10.20.1.128/25")
    ]
    return codes == ["InvalidSubnet.Range", "InvalidSubnet.Conflict"]


def vpc_in_use(account: Account) -> bool:
    """A VPC with a subnet is not deleted."""
    ec2, vpc = vpc_of(account)
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.20.1.0/24")["Subnet"]["SubnetId"]
    account.later(lambda: ec2.delete_subnet(SubnetId=subnet))
    return code_of(ec2.delete_vpc, VpcId=vpc) == "DependencyViolation"


def groups_and_rules_once(account: Account) -> bool:
    """A group's name can be used once in a VPC, and a rule once in a group."""
    ec2, vpc = vpc_of(account)
    named = {"GroupName": unique("group"), "Description": "test", "VpcId": vpc}
    group = ec2.create_security_group(**named)["GroupId"]
    account.later(lambda: ec2.delete_security_group(GroupId=group))
    rule = [
        {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
    ]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=rule)
    twice = code_of(ec2.authorize_security_group_ingress, GroupId=group, IpPermissions=rule)
    return (code_of(ec2.create_security_group, **named), twice) == (
        "InvalidGroup.Duplicate",
        "InvalidPermission.Duplicate",
    )


def template_versions(account: Account) -> bool:
    """A template's name can be used once; its versions are numbered, and $Latest is the last."""
    ec2, name = account.client("ec2"), unique("template")
    ec2.create_launch_template(
        LaunchTemplateName=name, LaunchTemplateData={"InstanceType": "c7i.large"}
    )
    account.later(lambda: ec2.delete_launch_template(LaunchTemplateName=name))
    ec2.create_launch_template_version(
        LaunchTemplateName=name, LaunchTemplateData={"InstanceType": "m7i.large"}
    )
    newest = ec2.describe_launch_template_versions(LaunchTemplateName=name, Versions=["$Latest"])[
        "LaunchTemplateVersions"
    ]
    codes = [
        code_of(
            ec2.create_launch_template,
            LaunchTemplateName=name,
            LaunchTemplateData={"InstanceType": "c7i.large"},
        ),
        code_of(ec2.describe_launch_template_versions, LaunchTemplateName=name, Versions=["99"]),
    ]
    wanted = [
        "InvalidLaunchTemplateName.AlreadyExistsException",
        "InvalidLaunchTemplateId.VersionNotFound",
    ]
    return (newest[0]["VersionNumber"], codes) == (2, wanted)


def spot_prices(account: Account) -> bool:
    """Prices of one type come newest first, from the region's zones."""
    found = account.client("ec2").describe_spot_price_history(
        InstanceTypes=["c6i.large"], ProductDescriptions=["Linux/UNIX"]
    )
    prices = found["SpotPriceHistory"]
    return (
        {p["InstanceType"] for p in prices} == {"c6i.large"}
        and all(
            p["AvailabilityZone"].startswith(account.region) and float(p["SpotPrice"]) > 0
            for p in prices
        )
        and [p["Timestamp"] for p in prices]
        == sorted((p["Timestamp"] for p in prices), reverse=True)
    )


def offered_by_zone(account: Account) -> bool:
    """The offerings of a type name zones of the region."""
    found = account.client("ec2").describe_instance_type_offerings(
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": ["c6i.large"]}],
    )["InstanceTypeOfferings"]
    return bool(found) and all(
        (o["InstanceType"], o["Location"][:-1]) == ("c6i.large", account.region) for o in found
    )


def sizes(account: Account) -> bool:
    """A type has its number of vCPUs, its memory and its GPUs."""
    found = account.client("ec2").describe_instance_types(InstanceTypes=["g4dn.xlarge"])[
        "InstanceTypes"
    ][0]
    gpu = found["GpuInfo"]["Gpus"][0]
    return (
        found["VCpuInfo"]["DefaultVCpus"],
        found["MemoryInfo"]["SizeInMiB"],
        gpu["Name"],
        gpu["Count"],
    ) == (4, 16384, "T4", 1)


def one_role_a_profile(account: Account) -> bool:
    """An instance profile holds one role."""
    iam, name = account.client("iam"), unique("profile")
    iam.create_instance_profile(InstanceProfileName=name)
    account.later(lambda: iam.delete_instance_profile(InstanceProfileName=name))
    for n in "ab":
        iam.create_role(
            RoleName=f"{name}-{n}", AssumeRolePolicyDocument=trust({"Service": "ec2.amazonaws.com"})
        )
        account.later(lambda role=f"{name}-{n}": iam.delete_role(RoleName=role))
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=f"{name}-a")
    account.later(
        lambda: iam.remove_role_from_instance_profile(
            InstanceProfileName=name, RoleName=f"{name}-a"
        )
    )
    return (
        code_of(iam.add_role_to_instance_profile, InstanceProfileName=name, RoleName=f"{name}-b")
        == "LimitExceeded"
    )


def policy_limits(account: Account) -> bool:
    """A managed policy has at most five versions, and an attached policy is not deleted."""
    iam, name = account.client("iam"), unique("policy")
    document = policy({"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "*"})
    arn = iam.create_policy(PolicyName=name, PolicyDocument=document)["Policy"]["Arn"]
    account.later(lambda: iam.delete_policy(PolicyArn=arn))
    for n in range(2, 6):
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=document)
        account.later(
            lambda version=f"v{n}": iam.delete_policy_version(PolicyArn=arn, VersionId=version)
        )
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust({"Service": "ec2.amazonaws.com"}))
    account.later(lambda: iam.delete_role(RoleName=name))
    iam.attach_role_policy(RoleName=name, PolicyArn=arn)
    account.later(lambda: iam.detach_role_policy(RoleName=name, PolicyArn=arn))
    codes = [
        code_of(iam.create_policy_version, PolicyArn=arn, PolicyDocument=document),
        code_of(iam.delete_policy, PolicyArn=arn),
    ]
    return codes == ["LimitExceeded", "DeleteConflict"]


def parameter_once(account: Account) -> bool:
    """A parameter is overwritten only on request."""
    ssm, name = account.client("ssm"), f"/{unique('parameter')}"
    ssm.put_parameter(Name=name, Value="1", Type="String")
    account.later(lambda: ssm.delete_parameter(Name=name))
    return (
        code_of(ssm.put_parameter, Name=name, Value="2", Type="String") == "ParameterAlreadyExists"
    )


NOBODY = "nobody-has-this-name-0"
S3, EC2, IAM = (
    f"{DOCS}AmazonS3/latest/",
    f"{DOCS}AWSEC2/latest/APIReference/",
    f"{DOCS}IAM/latest/APIReference/",
)
CFN, LAMBDA = f"{DOCS}AWSCloudFormation/latest/APIReference/", f"{DOCS}lambda/latest/api/"
TABLE = [
    Row("IfNoneMatch lets one writer win", f"{S3}userguide/conditional-writes.html", if_none_match),
    Row("IfMatch moves by comparing", f"{S3}userguide/conditional-writes.html", if_match),
    Row("listings are sorted and paged", f"{S3}API/API_ListObjectsV2.html", listing_is_sorted),
    Row("delimiters fold", f"{S3}API/API_ListObjectsV2.html", common_prefixes),
    Row("a full bucket stays", f"{S3}API/API_DeleteBucket.html", full_bucket),
    Row("a wrong digest is refused", f"{S3}API/API_PutObject.html", checksum),
    Row("ranges", f"{S3}API/API_GetObject.html", range_read),
    Row("presigned URLs", f"{S3}userguide/using-presigned-url.html", presigned),
    Row("malformed trust policies are refused", f"{IAM}API_CreateRole.html", malformed_policy),
    Row(
        "trust policies need a principal and STS actions",
        f"{DOCS}IAM/latest/UserGuide/reference_policies_grammar.html",
        malformed_trust,
    ),
    Row(
        "malformed identity policies are refused",
        f"{IAM}API_PutRolePolicy.html",
        malformed_identity_policy,
    ),
    Row("a role's name is taken once", f"{IAM}API_CreateRole.html", role_twice),
    Row("a role in use stays", f"{IAM}API_DeleteRole.html", role_in_use),
    Row("dry runs", f"{EC2}API_RunInstances.html", dry_run),
    Row("unknown and malformed ids", f"{EC2}errors-overview.html", unknown_instance),
    Row("ids exclude pages", f"{EC2}API_DescribeInstances.html", ids_and_pages),
    Row("unknown filters are refused", f"{EC2}API_DescribeInstances.html", unknown_filter),
    Row("filters with too many values are refused", f"{EC2}errors-overview.html", many_values),
    Row("unknown instance types are refused", f"{EC2}API_DescribeInstanceTypes.html", unknown_type),
    Row("capabilities are asked for", f"{CFN}API_CreateStack.html", stack_without_capability),
    Row("an unknown stack", f"{CFN}API_DescribeStacks.html", stack_unknown),
    Row("unresolved references are refused", f"{CFN}API_CreateStack.html", unresolved_reference),
    Row("an unknown function", f"{LAMBDA}API_Invoke.html", function_unknown),
    Row(
        "queues deliver",
        f"{DOCS}AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html",
        queue_delivers,
    ),
    Row(
        "public parameters",
        f"{DOCS}systems-manager/latest/userguide/parameter-store-public-parameters.html",
        parameter_of_aws,
    ),
    Row(
        "an unknown bucket",
        f"{S3}API/ErrorResponses.html",
        refuses("s3", "list_objects_v2", "NoSuchBucket", Bucket=NOBODY),
    ),
    Row(
        "an unknown upload",
        f"{S3}API/API_UploadPart.html",
        bucket_refuses(
            "upload_part", "NoSuchUpload", Key="x", UploadId="x" * 32, PartNumber=1, Body=b""
        ),
    ),
    Row(
        "no lifecycle",
        f"{S3}API/ErrorResponses.html",
        bucket_refuses("get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration"),
    ),
    Row(
        "no bucket policy",
        f"{S3}API/ErrorResponses.html",
        bucket_refuses("get_bucket_policy", "NoSuchBucketPolicy"),
    ),
    Row(
        "malformed bucket policies are refused",
        f"{S3}API/ErrorResponses.html",
        bucket_refuses("put_bucket_policy", "MalformedPolicy", Policy="{}"),
    ),
    Row("ranges beyond the end", f"{S3}API/ErrorResponses.html", range_beyond),
    Row(
        "a VPC is a /16 at most",
        f"{EC2}API_CreateVpc.html",
        refuses("ec2", "create_vpc", "InvalidVpc.Range", CidrBlock="10.0.0.0/8"),
    ),
    Row(
        "an unknown VPC",
        f"{EC2}errors-overview.html",
        refuses("ec2", "describe_vpcs", "InvalidVpcID.NotFound", VpcIds=["vpc-0123456789abcdef0"]),
    ),
    Row("subnets fit", f"{EC2}API_CreateSubnet.html", subnets_fit),
    Row("a VPC in use stays", f"{EC2}API_DeleteVpc.html", vpc_in_use),
    Row("groups and rules are there once", f"{EC2}errors-overview.html", groups_and_rules_once),
    Row(
        "versions of launch templates",
        f"{EC2}API_DescribeLaunchTemplateVersions.html",
        template_versions,
    ),
    Row("spot prices", f"{EC2}API_DescribeSpotPriceHistory.html", spot_prices),
    Row("offerings by zone", f"{EC2}API_DescribeInstanceTypeOfferings.html", offered_by_zone),
    Row("sizes of types", f"{EC2}API_DescribeInstanceTypes.html", sizes),
    Row(
        "one role in a profile",
        f"{DOCS}IAM/latest/UserGuide/reference_iam-quotas.html",
        one_role_a_profile,
    ),
    Row("versions of policies", f"{IAM}API_CreatePolicyVersion.html", policy_limits),
    Row(
        "an unknown role",
        f"{IAM}API_GetRole.html",
        refuses("iam", "get_role", "NoSuchEntity", RoleName=NOBODY),
    ),
    Row(
        "an unknown parameter",
        f"{DOCS}systems-manager/latest/APIReference/API_GetParameter.html",
        refuses("ssm", "get_parameter", "ParameterNotFound", Name="/nobody/has/this"),
    ),
    Row(
        "parameters are not overwritten",
        f"{DOCS}systems-manager/latest/APIReference/API_PutParameter.html",
        parameter_once,
    ),
    Row(
        "chained sessions live an hour",
        f"{DOCS}STS/latest/APIReference/API_AssumeRole.html",
        chained_session,
    ),
]


def unmet() -> set[str]:
    """Return the rows that docs/local-aws.md lists as not met."""
    section = (
        (ROOT / "docs" / "local-aws.md")
        .read_text()
        .partition("### Rows not met")[2]
        .partition("\n##")[0]
    )
    return set(re.findall(r"^- `([^`]+)`", section, re.MULTILINE))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name.replace(" ", "-"))
def test_the_local_aws_does_what_aws_documents(account: Account, row: Row) -> None:
    """Each row holds, except those that docs/local-aws.md lists as not met."""
    expected = REAL or row.name not in unmet()
    assert _holds(row, account) == expected, row.source


def _holds(row: Row, account: Account) -> bool:
    """Say whether a row holds. An answer where an error is documented counts as no."""
    try:
        return row.holds(account)
    except pytest.fail.Exception:
        return False


def test_the_documentation_lists_no_row_that_does_not_exist() -> None:
    """The list of rows not met names only existing rows."""
    assert unmet() <= {row.name for row in TABLE}


def test_every_row_has_a_source() -> None:
    """Each row names the page of AWS that documents it."""
    assert all(row.source.startswith(DOCS) for row in TABLE)
    assert len({row.name for row in TABLE}) == len(TABLE)
    assert Path(__file__).exists()
