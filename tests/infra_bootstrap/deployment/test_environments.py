"""`dev` with defaults and `prod` with every option share one account and stay separate."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra_bootstrap.deployment.destroy import destroy
from infra_bootstrap.deployment.drift import find_drift
from infra_bootstrap.deployment.one_stack import StackOutcome
from infra_bootstrap.errors import AccessRefusedError
from infra_bootstrap.stacks.concerns import Concern, role_name, stack_name
from infra_bootstrap.stacks.deployed import find_stack
from infra_bootstrap.stacks.settings import DeploymentSettings
from rl_lifecycle.storage.layout import spec_key
from tests.infra_bootstrap.accounts import Account, Deployment, refusal
from tests.infra_bootstrap.stacks.test_bucket_writers import assert_refused
from tests.infra_bootstrap.stacks.test_least_privilege import TAGS, dry_run, fleet

EVERYTHING = {
    "EnableNat": "true",
    "EnableSessionManager": "true",
    "VpcCidr": "172.20.0.0/17",
    "MonthlyBudgetUsd": "50",
    "AlarmEmail": "nights@example.com",
    "ReservedConcurrency": "5",
    "CheckpointDays": "60",
}


@pytest.fixture(scope="module")
def prod(running_account: Account, deployed: Deployment) -> Deployment:
    """The environment `prod` beside `dev`, with every option on and its own KMS key."""
    assert running_account is deployed.account
    with running_account.reachable():
        key = (
            running_account.clients()
            .client("kms")
            .create_key(Description="prod's bucket")["KeyMetadata"]["Arn"]
        )
        made = Deployment(running_account, environment="prod")
        made.settings = DeploymentSettings(
            "prod",
            lambda_runtime=made.settings.lambda_runtime,
            parameters={**EVERYTHING, "KmsKeyArn": key},
        )
        made.deploy()
    return made


@pytest.fixture
def both(dev: Deployment, prod: Deployment) -> tuple[Deployment, Deployment]:
    """The two environments, with clients that point at their account."""
    return dev, prod


def test_both_are_whole_and_as_their_templates_say(both: tuple[Deployment, Deployment]) -> None:
    """Every stack is complete, no name is shared, and drift finds no difference."""
    dev, prod = both
    administrator = dev.as_role("administrator")
    for deployment in both:
        stacks = [
            find_stack(administrator, stack_name(deployment.settings.environment, concern))
            for concern in Concern
        ]
        assert {stack.status if stack else None for stack in stacks} <= {
            "CREATE_COMPLETE",
            "UPDATE_COMPLETE",
        }
        assert find_drift(administrator, deployment.settings.environment) == []
    shared = {
        "environment",
        "account_id",
        "region",
        "image_id",
        "trainer_wheels",
        "trainer_python",
        "lambda_runtime",
        "launch_template_version",
        "gang_launch_template_version",
        "evaluator_memory_mib",
        "evaluator_version",
    }
    ours, theirs = dev.outputs.to_dict(), prod.outputs.to_dict()
    assert {name for name in ours if ours[name] == theirs[name]} <= shared
    assert ours["environment"] != theirs["environment"]


def test_every_option_has_its_resources(both: tuple[Deployment, Deployment]) -> None:
    """`prod` has its NAT, private endpoints, budget, address and kept executions."""
    _, prod = both
    ec2, lambda_ = prod.as_role("administrator").ec2, prod.as_role("administrator").client("lambda")
    subnet = ec2.describe_subnets(SubnetIds=[prod.outputs.subnet_ids["eu-west-1a"]])["Subnets"][0]
    inside = [{"Name": "vpc-id", "Values": [subnet["VpcId"]]}]
    assert subnet["CidrBlock"] == "172.20.0.0/21"
    assert [
        gateway["State"] for gateway in ec2.describe_nat_gateways(Filters=inside)["NatGateways"]
    ] == ["available"]
    endpoints = ec2.describe_vpc_endpoints(Filters=inside)["VpcEndpoints"]
    assert {endpoint["ServiceName"].rsplit(".", 1)[1] for endpoint in endpoints} == {
        "s3",
        "ssm",
        "ssmmessages",
    }
    named = [{"Name": "tag:Name", "Values": ["nightshift-prod-endpoints"]}]
    rules = ec2.describe_security_groups(Filters=named)["SecurityGroups"][0]["IpPermissions"]
    assert [
        (rule["FromPort"], [item["CidrIp"] for item in rule["IpRanges"]]) for rule in rules
    ] == [(443, ["172.20.0.0/17"])]
    assert (
        lambda_.get_function_concurrency(FunctionName="nightshift-prod-player")[
            "ReservedConcurrentExecutions"
        ]
        == 5
    )
    subscribed = (
        prod.as_role("administrator")
        .client("sns")
        .list_subscriptions_by_topic(TopicArn=prod.outputs.topic_arn)
    )
    assert [item["Endpoint"] for item in subscribed["Subscriptions"]] == ["nights@example.com"]


def test_the_users_kms_key_encrypts_the_bucket(
    both: tuple[Deployment, Deployment],
) -> None:
    """Objects are encrypted with the key, and each bucket role may use it through S3."""
    _, prod = both
    key, body = spec_key("exp", "kms"), b"{}"
    prod.as_role("launcher").s3.put_object(Bucket=prod.bucket, Key=key, Body=body, IfNoneMatch="*")
    found = prod.as_role("trainer").s3.get_object(Bucket=prod.bucket, Key=key)
    assert found["Body"].read() == body
    assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == (
        "aws:kms",
        prod.settings.parameters["KmsKeyArn"],
    )
    iam = prod.as_role("administrator").iam
    for role in ("trainer", "evaluator", "launcher", "promoter", "viewer", "deployer"):
        name = role_name("prod", role)
        documents = [
            iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
            for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]
        ]
        granted = [
            statement
            for document in documents
            for statement in document["Statement"]
            if statement.get("Resource") == prod.settings.parameters["KmsKeyArn"]
        ]
        assert "kms:Decrypt" in str(granted), role


def test_neither_launches_in_the_other(both: tuple[Deployment, Deployment]) -> None:
    """A launcher may use neither the other's template nor the other's tags."""
    dev, prod = both
    for ours, theirs in ((dev, prod), (prod, dev)):
        launcher, name = ours.as_role("launcher").ec2, ours.settings.environment
        own = retagged(fleet(ours), name)
        assert dry_run(launcher.create_fleet, own) == "DryRunOperation"
        assert (
            dry_run(launcher.create_fleet, retagged(own, theirs.settings.environment))
            == "UnauthorizedOperation"
        )
        assert (
            dry_run(launcher.create_fleet, retagged(fleet(theirs), name)) == "UnauthorizedOperation"
        )


def retagged(request: dict[str, Any], environment: str) -> dict[str, Any]:
    """Change the request's tags to those of an environment."""
    changed = copy.deepcopy(request)
    tags = TAGS | {"nightshift:environment": environment}
    changed["TagSpecifications"][0]["Tags"] = [
        {"Key": key, "Value": value} for key, value in tags.items()
    ]
    return changed


@pytest.mark.parametrize(
    "role", ["trainer", "evaluator", "launcher", "promoter", "reaper", "viewer"]
)
def test_no_role_reads_or_writes_the_others_bucket(
    both: tuple[Deployment, Deployment], role: str
) -> None:
    """A role is refused what the same role of the other environment may do there."""
    dev, prod = both
    for ours, theirs in ((dev, prod), (prod, dev)):
        s3 = ours.as_role(role).s3
        assert_refused(s3.list_objects_v2, Bucket=theirs.bucket)
        assert_refused(s3.get_object, Bucket=theirs.bucket, Key=spec_key("exp", "run"))
        assert_refused(
            s3.put_object,
            Bucket=theirs.bucket,
            Key=spec_key("exp", "sly"),
            Body=b"",
            IfNoneMatch="*",
        )


def test_neither_ends_the_others_machines(both: tuple[Deployment, Deployment]) -> None:
    """Launcher and reaper cannot end a machine of the other environment."""
    dev, prod = both
    ec2 = dev.as_role("administrator").ec2
    tags = [
        {"ResourceType": "instance", "Tags": [{"Key": "nightshift:environment", "Value": "prod"}]}
    ]
    made = ec2.run_instances(
        ImageId=dev.outputs.image_id,
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=tags,
        UserData="#!/bin/sh\nsleep 600\n",
    )["Instances"][0]["InstanceId"]
    try:
        for role in ("launcher", "reaper"):
            assert_refused(dev.as_role(role).ec2.terminate_instances, InstanceIds=[made])
        prod.as_role("reaper").ec2.terminate_instances(InstanceIds=[made])
    finally:
        ec2.terminate_instances(InstanceIds=[made])


def test_a_role_becomes_no_role_of_the_other(both: tuple[Deployment, Deployment]) -> None:
    """The other environment's roles do not trust launcher and promoter."""
    dev, prod = both
    for ours, theirs in ((dev, prod), (prod, dev)):
        for role in ("launcher", "promoter"):
            with pytest.raises(AccessRefusedError):
                ours.as_role(role).assume(theirs.outputs.promoter_role_arn)


def test_an_administrator_takes_one_away_and_leaves_the_other(
    both: tuple[Deployment, Deployment],
) -> None:
    """Destroying prod leaves nothing of prod by name or tag, and dev unchanged."""
    dev, prod = both
    administrator = dev.as_role("administrator")
    before = dev.outputs
    done = destroy(administrator, prod.settings, "prod", prod.printed.append, delete_bucket=True)
    assert set(done.deleted) == {*(stack_name("prod", concern) for concern in Concern), prod.bucket}
    assert (done.kept, done.leftovers) == ((), ())
    with pytest.raises(ClientError) as caught:
        administrator.s3.head_bucket(Bucket=prod.bucket)
    assert refusal(caught.value)[0] == "404"
    roles = [
        role["RoleName"]
        for page in administrator.iam.get_paginator("list_roles").paginate()
        for role in page["Roles"]
    ]
    assert not [role for role in roles if role.startswith("nightshift-prod-")]
    del dev.outputs
    assert dev.outputs == before
    assert find_drift(administrator, "dev") == []


def test_another_region_works_too(tmp_path: Path) -> None:
    """The five stacks deploy to us-east-1, whose bucket location and zones have special names."""
    account = Account(tmp_path / "state", "--region", "us-east-1")
    try:
        with account.reachable():
            far = Deployment(account, environment="far")
            assert {result.outcome for result in far.deploy()} == {StackOutcome.CREATED}
            assert (far.outputs.region, far.outputs.bucket) == (
                "us-east-1",
                f"nightshift-far-{account.account_id}-us-east-1",
            )
            assert {zone[:-1] for zone in far.outputs.subnet_ids} == {"us-east-1"}
            assert find_drift(account.clients(), "far") == []
            far.as_role("launcher").s3.put_object(
                Bucket=far.bucket, Key=spec_key("exp", "far"), Body=b"{}", IfNoneMatch="*"
            )
    finally:
        account.down()
