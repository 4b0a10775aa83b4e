"""Rows about IAM, STS, CloudFormation, Lambda, SQS and SSM."""

from __future__ import annotations

import re

import pytest
from botocore.exceptions import ClientError

from tests.local_aws.conformance.account import Account, named
from tests.local_aws.conftest import code_of, policy, trust, until


def malformed_policy(account: Account) -> bool:
    """A trust policy that is not a policy is refused."""
    return (
        code_of(
            account.client("iam").create_role,
            RoleName=named("role"),
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
        code_of(iam.create_role, RoleName=named("role"), AssumeRolePolicyDocument=policy(one))
        for one in bad
    }
    return codes == {"MalformedPolicyDocument"}


def malformed_identity_policy(account: Account) -> bool:
    """A role's own policy must not have a principal, and needs an action."""
    iam, name = account.client("iam"), named("role")
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
    iam, name = account.client("iam"), named("role")
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
    iam, name = account.client("iam"), named("role")
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust({"Service": "ec2.amazonaws.com"}))
    account.later(lambda: iam.delete_role(RoleName=name))
    iam.put_role_policy(
        RoleName=name,
        PolicyName="p",
        PolicyDocument=policy({"Effect": "Deny", "Action": "*", "Resource": "*"}),
    )
    account.later(lambda: iam.delete_role_policy(RoleName=name, PolicyName="p"))
    return code_of(iam.delete_role, RoleName=name) == "DeleteConflict"


def stack_without_capability(account: Account) -> bool:
    """A template with IAM resources needs a capability."""
    body = (
        '{"Resources":{"R":{"Type":"AWS::IAM::Role","Properties":{"AssumeRolePolicyDocument":{}}}}}'
    )
    return (
        code_of(
            account.client("cloudformation").create_stack,
            StackName=named("stack"),
            TemplateBody=body,
        )
        == "InsufficientCapabilitiesException"
    )


def stack_unknown(account: Account) -> bool:
    """An unknown stack is a validation error whose message says so."""
    with pytest.raises(ClientError, match="does not exist"):
        account.client("cloudformation").describe_stacks(StackName=named("stack"))
    return True


def unresolved_reference(account: Account) -> bool:
    """An unresolved reference is refused before anything is created."""
    body = (
        '{"Resources":{"Q":{"Type":"AWS::SQS::Queue","Properties":{"QueueName":{"Ref":"Nobody"}}}}}'
    )
    with pytest.raises(ClientError, match=re.escape("Unresolved resource dependencies [Nobody]")):
        account.client("cloudformation").create_stack(StackName=named("stack"), TemplateBody=body)
    return True


def function_unknown(account: Account) -> bool:
    """An unknown function is refused."""
    return (
        code_of(account.client("lambda").invoke, FunctionName=named("function"))
        == "ResourceNotFoundException"
    )


def queue_delivers(account: Account) -> bool:
    """A sent message is received with its digest."""
    sqs = account.client("sqs")
    url = sqs.create_queue(QueueName=named("queue"))["QueueUrl"]
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


def one_role_a_profile(account: Account) -> bool:
    """An instance profile holds one role."""
    iam, name = account.client("iam"), named("profile")
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
    iam, name = account.client("iam"), named("policy")
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
    ssm, name = account.client("ssm"), f"/{named('parameter')}"
    ssm.put_parameter(Name=name, Value="1", Type="String")
    account.later(lambda: ssm.delete_parameter(Name=name))
    return (
        code_of(ssm.put_parameter, Name=name, Value="2", Type="String") == "ParameterAlreadyExists"
    )
