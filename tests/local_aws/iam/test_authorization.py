"""IAM is enforced in the cases on which the pipeline relies."""

import json
from typing import Any

import boto3
import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from tests.local_aws.conftest import (
    ACCOUNT,
    QUICK,
    LocalAwsUnderTest,
    allow,
    code_of,
    policy,
    run_cli,
    trust,
    unique,
)

E = f"arn:aws:ec2:*:{ACCOUNT}:"
EVERYTHING_BUT_THE_INSTANCE = [
    *(
        f"{E}{k}/*"
        for k in ("subnet", "security-group", "network-interface", "volume", "launch-template")
    ),
    "arn:aws:ec2:*::image/*",
]


def launch(aws: LocalAwsUnderTest, session: boto3.Session, **request: Any) -> str:
    """Launch with a session and return the instance's id."""
    return aws.launch(session=session, ImageId=aws.image(), **request)


def refused(aws: LocalAwsUnderTest, session: boto3.Session, **request: Any) -> str:
    """Return the code of a launch that must be refused."""
    ec2 = aws.client("ec2", session)
    return code_of(
        ec2.run_instances,
        ImageId=aws.image(),
        MinCount=1,
        MaxCount=1,
        **{"InstanceType": "t3.micro", **request},
    )


@pytest.mark.parametrize("key", ["test", "000000000000", ACCOUNT, "AKIAIOSFODNN7EXAMPLE"])
def test_no_key_is_root(aws: LocalAwsUnderTest, key: str) -> None:
    """A made-up key, an account id and the emulator's own special key are unknown."""
    nobody = boto3.Session(key, "secret", region_name=aws.region)
    assert (
        code_of(
            nobody.client("sts", endpoint_url=aws.endpoint_url, config=QUICK).get_caller_identity
        )
        == "InvalidClientTokenId"
    )
    assert (
        code_of(nobody.client("s3", endpoint_url=aws.endpoint_url, config=QUICK).list_buckets)
        == "InvalidAccessKeyId"
    )
    assert (
        code_of(
            nobody.client("ec2", endpoint_url=aws.endpoint_url, config=QUICK).describe_instances
        )
        == "AuthFailure"
    )


def test_a_wrong_signature_is_refused(aws: LocalAwsUnderTest) -> None:
    """A correct key with a wrong secret is refused."""
    found = aws.credentials("administrator")
    forger = boto3.Session(
        found["AccessKeyId"], "x" + found["SecretAccessKey"], found["Token"], aws.region
    )
    assert (
        code_of(forger.client("s3", endpoint_url=aws.endpoint_url, config=QUICK).list_buckets)
        == "SignatureDoesNotMatch"
    )
    assert (
        code_of(forger.client("iam", endpoint_url=aws.endpoint_url, config=QUICK).list_roles)
        == "SignatureDoesNotMatch"
    )


@pytest.mark.parametrize(
    ("service", "target", "code"),
    [
        ("ec2", "", "InvalidAction"),
        ("iam", "", "InvalidAction"),
        ("cloudformation", "", "InvalidAction"),
        ("ssm", "AmazonSSM.", "UnknownOperationException"),
        ("sqs", "AmazonSQS.", "UnknownOperationException"),
        ("events", "AWSEvents.", "UnknownOperationException"),
        ("logs", "Logs_20140328.", "UnknownOperationException"),
        ("pricing", "AWSPriceListService.", "UnknownOperationException"),
    ],
)
def test_an_unknown_action_is_refused_in_the_services_own_words(
    aws: LocalAwsUnderTest, service: str, target: str, code: str
) -> None:
    """Query services and JSON services have their own codes for an unknown action."""
    kind = "application/x-amz-json-1.1" if target else "application/x-www-form-urlencoded"
    headers = {"Content-Type": kind} | ({"X-Amz-Target": f"{target}FlyToTheMoon"} if target else {})
    url, body = (
        aws.endpoint_url + "/",
        "{}" if target else "Action=FlyToTheMoon&Version=2016-11-15",
    )
    request = AWSRequest("POST", url, data=body, headers=headers)
    SigV4Auth(aws.session().get_credentials(), service, aws.region).add_auth(request)
    answer = requests.post(url, data=body, headers=dict(request.headers), timeout=20)
    assert (answer.status_code, code in answer.text) == (400, True), answer.text


def test_the_worker_may_nothing_until_it_is_given_something(aws: LocalAwsUnderTest) -> None:
    """The worker's role has no policies, and cannot assume a role that does not trust it."""
    worker = aws.session("airflow-worker")
    assert code_of(aws.client("s3", worker).list_buckets) == "AccessDenied"
    assert (
        code_of(
            aws.client("sts", worker).assume_role,
            RoleArn=f"arn:aws:iam::{ACCOUNT}:role/administrator",
            RoleSessionName="x2",
        )
        == "AccessDenied"
    )


def test_chained_roles_need_both_sides(aws: LocalAwsUnderTest) -> None:
    """The caller's policy must allow sts:AssumeRole, and the trust policy must accept its role."""
    target, iam = unique("target"), aws.client("iam")
    caller = aws.role_with(allow("sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/{target}"))
    stranger = aws.role_with(allow("sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/{target}"))
    name = aws.client("sts", caller).get_caller_identity()["Arn"].split("/")[1]
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
        "Action": "sts:AssumeRole",
        "Condition": {"ArnLike": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/{name}"}},
    }
    iam.create_role(RoleName=target, AssumeRolePolicyDocument=policy(statement))
    assert aws.assume(target, caller) is not None
    request = {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/{target}", "RoleSessionName": "test"}
    assert code_of(aws.client("sts", stranger).assume_role, **request) == "AccessDenied"
    assert (
        code_of(aws.client("sts", aws.role_with(allow("s3:*"))).assume_role, **request)
        == "AccessDenied"
    )


def test_launching_needs_the_roles_passing_and_the_tags(aws: LocalAwsUnderTest) -> None:
    """A launch needs PassRole for EC2 only, and the request tag that the policy requires."""
    profile = aws.instance_profile()
    tagged = allow(
        "ec2:RunInstances", f"{E}instance/*", {"StringEquals": {"aws:RequestTag/project": "test"}}
    )
    tagging = allow(
        "ec2:CreateTags", f"{E}*/*", {"StringEquals": {"ec2:CreateAction": "RunInstances"}}
    )
    passing = allow(
        "iam:PassRole",
        f"arn:aws:iam::{ACCOUNT}:role/{profile}",
        {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}},
    )
    base = [
        allow("ec2:RunInstances", EVERYTHING_BUT_THE_INSTANCE),
        tagged,
        tagging,
        allow("ec2:Describe*"),
    ]
    tags = {
        "TagSpecifications": [
            {"ResourceType": "instance", "Tags": [{"Key": "project", "Value": "test"}]}
        ]
    }
    without, with_pass = aws.role_with(*base), aws.role_with(*base, passing)
    assert (
        refused(aws, without, IamInstanceProfile={"Name": profile}, **tags)
        == "UnauthorizedOperation"
    )
    assert refused(aws, with_pass, IamInstanceProfile={"Name": profile}) == "UnauthorizedOperation"
    launch(aws, with_pass, IamInstanceProfile={"Name": profile}, **tags)


@pytest.mark.parametrize(
    ("resource", "condition", "good", "bad"),
    [
        (
            "instance",
            {"StringLike": {"ec2:InstanceType": "c7i.*"}},
            {"InstanceType": "c7i.large"},
            {"InstanceType": "m7i.large"},
        ),
        (
            "instance",
            {"StringEquals": {"ec2:MetadataHttpTokens": "required"}},
            {"MetadataOptions": {"HttpTokens": "required"}},
            {},
        ),
        (
            "instance",
            {"StringEquals": {"ec2:InstanceMarketType": "spot"}},
            {"InstanceMarketOptions": {"MarketType": "spot"}},
            {},
        ),
        (
            "instance",
            {"NumericEquals": {"ec2:MetadataHttpPutResponseHopLimit": "1"}},
            {},
            {"MetadataOptions": {"HttpPutResponseHopLimit": 3}},
        ),
        (
            "volume",
            {"Bool": {"ec2:Encrypted": "true"}},
            {"BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"Encrypted": True}}]},
            {},
        ),
        (
            "volume",
            {"NumericLessThanEquals": {"ec2:VolumeSize": "100"}},
            {},
            {"BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 500}}]},
        ),
        ("image", {"StringEquals": {"ec2:Owner": "898082745236"}}, {}, None),
    ],
)
def test_each_part_of_a_launch_is_asked_for_with_its_own_keys(
    aws: LocalAwsUnderTest,
    resource: str,
    condition: dict[str, Any],
    good: dict[str, Any],
    bad: dict[str, Any] | None,
) -> None:
    """A condition on one kind of resource decides, whatever the other statements allow."""
    arn = "arn:aws:ec2:*::image/*" if resource == "image" else f"{E}{resource}/*"
    others = [a for a in (*EVERYTHING_BUT_THE_INSTANCE, f"{E}instance/*") if a != arn]
    somebody = aws.role_with(
        allow("ec2:RunInstances", others), allow("ec2:RunInstances", arn, condition)
    )
    launch(aws, somebody, **good)
    if bad is not None:
        assert refused(aws, somebody, **bad) == "UnauthorizedOperation"


def test_only_tagged_instances_can_be_ended(aws: LocalAwsUnderTest) -> None:
    """aws:ResourceTag limits TerminateInstances to instances with the tag."""
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "project", "Value": "mine"}]}]
    mine, theirs = aws.launch(TagSpecifications=tags), aws.launch()
    ec2 = aws.client(
        "ec2",
        aws.role_with(
            allow(
                "ec2:TerminateInstances",
                f"{E}instance/*",
                {"StringEquals": {"aws:ResourceTag/project": "mine"}},
            )
        ),
    )
    assert code_of(ec2.terminate_instances, InstanceIds=[theirs]) == "UnauthorizedOperation"
    assert code_of(ec2.terminate_instances, InstanceIds=[mine, theirs]) == "UnauthorizedOperation"
    assert aws.instance(mine)["State"]["Name"] != "shutting-down", "all or nothing"
    ec2.terminate_instances(InstanceIds=[mine])


def test_policy_variables_and_principal_tags(aws: LocalAwsUnderTest) -> None:
    """A policy can use the caller's tag as a prefix; without the tag, it does not match."""
    bucket, iam = aws.bucket(), aws.client("iam")
    statement = allow("s3:PutObject", f"arn:aws:s3:::{bucket}/${{aws:PrincipalTag/team}}/*")
    with_tag, without = aws.role_with(statement), aws.role_with(statement)
    name = aws.client("sts", with_tag).get_caller_identity()["Arn"].split("/")[1]
    iam.tag_role(RoleName=name, Tags=[{"Key": "team", "Value": "blue"}])
    aws.client("s3", with_tag).put_object(Bucket=bucket, Key="blue/x", Body=b"")
    assert (
        code_of(aws.client("s3", with_tag).put_object, Bucket=bucket, Key="red/x", Body=b"")
        == "AccessDenied"
    )
    assert (
        code_of(aws.client("s3", without).put_object, Bucket=bucket, Key="/x", Body=b"")
        == "AccessDenied"
    )


def test_a_boundary_is_a_ceiling(aws: LocalAwsUnderTest) -> None:
    """No policy gives a permission that the boundary does not allow."""
    bucket, arn = (
        aws.bucket(),
        aws.client("iam").create_policy(
            PolicyName=unique("boundary"), PolicyDocument=policy(allow("s3:GetObject"))
        )["Policy"]["Arn"],
    )
    s3 = aws.client("s3", aws.role_with(allow("s3:*"), boundary=arn))
    assert code_of(s3.put_object, Bucket=bucket, Key="x", Body=b"") == "AccessDenied"


def test_a_bucket_policy_can_demand_conditional_writes(aws: LocalAwsUnderTest) -> None:
    """Writes need If-None-Match or If-Match; parts of an upload are exempt, its completion not."""
    bucket, s3 = aws.bucket(), aws.client("s3")
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject"}
    once = {
        **deny,
        "Resource": f"arn:aws:s3:::{bucket}/once/*",
        "Condition": {
            "Null": {"s3:if-none-match": "true"},
            "Bool": {"s3:ObjectCreationOperation": "true"},
        },
    }
    moved = {
        **deny,
        "Resource": f"arn:aws:s3:::{bucket}/moved/*",
        "Condition": {"Null": {"s3:if-match": "true", "s3:if-none-match": "true"}},
    }
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(once, moved))
    assert code_of(s3.put_object, Bucket=bucket, Key="once/x", Body=b"") == "AccessDenied"
    s3.put_object(Bucket=bucket, Key="once/x", Body=b"", IfNoneMatch="*")
    assert (
        code_of(s3.put_object, Bucket=bucket, Key="once/x", Body=b"", IfNoneMatch="*")
        == "PreconditionFailed"
    )
    tag = s3.put_object(Bucket=bucket, Key="moved/x", Body=b"1", IfNoneMatch="*")["ETag"]
    assert code_of(s3.put_object, Bucket=bucket, Key="moved/x", Body=b"2") == "AccessDenied"
    s3.put_object(Bucket=bucket, Key="moved/x", Body=b"2", IfMatch=tag)
    assert (
        code_of(s3.put_object, Bucket=bucket, Key="moved/x", Body=b"3", IfMatch=tag)
        == "PreconditionFailed"
    )
    upload = s3.create_multipart_upload(Bucket=bucket, Key="once/big")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="once/big", UploadId=upload, PartNumber=1, Body=b"x")[
        "ETag"
    ]
    done = {
        "Bucket": bucket,
        "Key": "once/big",
        "UploadId": upload,
        "MultipartUpload": {"Parts": [{"ETag": part, "PartNumber": 1}]},
    }
    assert code_of(s3.complete_multipart_upload, **done) == "AccessDenied"
    s3.complete_multipart_upload(**done, IfNoneMatch="*")


def test_a_bucket_policy_denies_administrators_too_and_loopback_is_secure(
    aws: LocalAwsUnderTest,
) -> None:
    """An explicit denial holds for all but one role; a TLS-only statement permits loopback."""
    bucket = aws.bucket()
    writer = aws.role_with(allow("s3:PutObject"))
    name = aws.client("sts", writer).get_caller_identity()["Arn"].split("/")[1]
    only = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": f"arn:aws:s3:::{bucket}/*",
        "Condition": {"ArnNotEquals": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/{name}"}},
    }
    tls = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    aws.client("s3").put_bucket_policy(Bucket=bucket, Policy=policy(only, tls))
    aws.client("s3", writer).put_object(Bucket=bucket, Key="x", Body=b"")
    assert code_of(aws.client("s3").put_object, Bucket=bucket, Key="x", Body=b"") == "AccessDenied"


def test_listing_can_be_bound_to_a_prefix(aws: LocalAwsUnderTest) -> None:
    """s3:prefix limits what can be listed."""
    bucket = aws.bucket()
    s3 = aws.client(
        "s3",
        aws.role_with(
            allow(
                "s3:ListBucket", f"arn:aws:s3:::{bucket}", {"StringLike": {"s3:prefix": "mine/*"}}
            )
        ),
    )
    s3.list_objects_v2(Bucket=bucket, Prefix="mine/")
    assert code_of(s3.list_objects_v2, Bucket=bucket, Prefix="theirs/") == "AccessDenied"


def test_who_may_not_list_does_not_learn_what_is_missing(aws: LocalAwsUnderTest) -> None:
    """A missing key is 404 with s3:ListBucket, else 403, also with a condition on the prefix."""
    bucket = aws.bucket()
    reading, listing = allow("s3:GetObject"), allow("s3:ListBucket", f"arn:aws:s3:::{bucket}")
    prefixed = allow(
        "s3:ListBucket", f"arn:aws:s3:::{bucket}", {"StringLike": {"s3:prefix": "mine/*"}}
    )
    codes = []
    for statements in ([reading, listing], [reading], [reading, prefixed]):
        s3 = aws.client("s3", aws.role_with(*statements))
        codes.append(
            (
                code_of(s3.get_object, Bucket=bucket, Key="mine/x"),
                code_of(s3.head_object, Bucket=bucket, Key="mine/x"),
            )
        )
    assert codes == [("NoSuchKey", "404"), ("AccessDenied", "403"), ("AccessDenied", "403")]


def test_usage_tells_what_each_role_did(aws: LocalAwsUnderTest) -> None:
    """`status` counts the allowed and denied actions of each role."""
    bucket, role = aws.bucket(), aws.role_with(allow("s3:ListBucket"))
    name, s3 = (
        aws.client("sts", role).get_caller_identity()["Arn"].split("/")[1],
        aws.client("s3", role),
    )
    s3.list_objects_v2(Bucket=bucket)
    code_of(s3.put_object, Bucket=bucket, Key="x", Body=b"")
    used = {
        (u["action"], u["decision"]): u["count"]
        for u in aws.cli("status")["usage"]
        if u["role"] == name
    }
    assert (used["s3:ListBucket", "allowed"], used["s3:PutObject", "denied"]) == (1, 1)


def test_what_a_role_may_and_never_did_is_listed(aws: LocalAwsUnderTest) -> None:
    """`permissions` compares a role's inline and attached policies with its used actions."""
    bucket, iam = aws.bucket(), aws.client("iam")
    role = aws.role_with(allow(["s3:List*", "s3:PutObject"]))
    name = aws.client("sts", role).get_caller_identity()["Arn"].split("/")[1]
    arn = iam.create_policy(
        PolicyName=unique("policy"), PolicyDocument=policy(allow("sqs:SendMessage"))
    )["Policy"]["Arn"]
    iam.attach_role_policy(RoleName=name, PolicyArn=arn)
    aws.client("s3", role).list_objects_v2(Bucket=bucket)
    code_of(aws.client("sqs", role).list_queues)
    listed = aws.cli("permissions", "--role", name)["roles"]
    assert set(listed) == {name}
    assert listed[name]["never_used"] == ["s3:PutObject", "sqs:SendMessage"]
    assert (listed[name]["used"]["s3:ListBucket"], listed[name]["denied"]) == (
        1,
        {"sqs:ListQueues": 1},
    )
    shown = run_cli("permissions", "--role", name, "--state", str(aws.state)).stdout
    assert "  never used: s3:PutObject" in shown.splitlines()


def test_a_vpc_endpoint_has_a_say(aws: LocalAwsUnderTest) -> None:
    """A machine cannot write to a bucket that the policy of its S3 endpoint does not name."""
    ec2, near, far = aws.client("ec2"), aws.bucket(), aws.bucket()
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.1.0/24", AvailabilityZone="eu-west-1a")[
        "Subnet"
    ]["SubnetId"]
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)
    document = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": f"arn:aws:s3:::{near}/*",
            }
        ],
    }
    ec2.create_vpc_endpoint(
        VpcId=vpc,
        ServiceName=f"com.amazonaws.{aws.region}.s3",
        RouteTableIds=[table],
        PolicyDocument=json.dumps(document),
    )
    profile = aws.instance_profile(allow("s3:PutObject"))
    script = (
        '#!/bin/sh\nfor b in %s %s; do python3 -c "import boto3; '
        "boto3.client('s3').put_object(Bucket='$b', Key='x', Body=b'')\" 2>/dev/null && echo "
        "wrote $b || echo not $b; done\necho done\n"
    )
    machine = aws.launch(
        script % (near, far), SubnetId=subnet, IamInstanceProfile={"Name": profile}
    )
    console = aws.await_console(machine, "done")
    assert f"wrote {near}" in console
    assert f"not {far}" in console


def test_a_service_is_trusted_only_by_name(aws: LocalAwsUnderTest) -> None:
    """A trust policy for a service lets no role assume it."""
    name, iam = unique("role"), aws.client("iam")
    iam.create_role(
        RoleName=name, AssumeRolePolicyDocument=trust({"Service": "lambda.amazonaws.com"})
    )
    assert (
        code_of(
            aws.client("sts").assume_role,
            RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{name}",
            RoleSessionName="test",
        )
        == "AccessDenied"
    )
