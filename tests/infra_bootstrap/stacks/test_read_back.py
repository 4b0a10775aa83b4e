"""Each property of each resource in the templates is reported by the resource's service.

The test walks over the templates, so a new resource or property that no reader returns fails here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from infra_bootstrap.stacks.concerns import Concern, stack_name
from infra_bootstrap.stacks.deployed import find_stack
from infra_bootstrap.stacks.settings import DeploymentSettings
from infra_bootstrap.stacks.template_files import resources_made, template
from tests.infra_bootstrap.accounts import PYTHON, Account, Deployment
from tests.infra_bootstrap.stacks.reading_back import (
    READERS,
    Resolver,
    additions,
    differences,
    with_stack_tags,
)

#: Every option of the templates is on, so that conditional resources are created too.
EVERY_SWITCH = {
    "EnableNat": "true",
    "EnableSessionManager": "true",
    "EnableFlowLogs": "true",
    "ReservedConcurrency": "5",
    "AlarmEmail": "somebody@example.org",
    "MonthlyBudgetUsd": "50",
}
#: Three zones, of which the resources B and C repeat what A has.
NEEDS_MORE_ZONES = {f"{kind}{zone}" for kind in ("Subnet", "Routes") for zone in "DEF"}


@pytest.fixture(scope="module")
def stages(running_account: Account) -> Iterator[dict[Concern, Resolver]]:
    """The five stacks of an environment with every option on."""
    with running_account.reachable():
        administrator = running_account.clients()
        key = administrator.client("kms").create_key(Description="the bucket's")["KeyMetadata"][
            "Arn"
        ]
        operator = administrator.role_arn("administrator")
        arns = {"OperatorArn": operator, "ApiServerArn": administrator.role_arn("api-server")}
        settings = DeploymentSettings(
            "every",
            lambda_runtime=f"python{PYTHON}",
            parameters=EVERY_SWITCH | arns | {"KmsKeyArn": key},
        )
        deployment = Deployment(running_account, "every")
        deployment.settings = settings
        deployment.deploy()
        exports = {
            item["Name"]: item["Value"]
            for page in administrator.cloudformation.get_paginator("list_exports").paginate()
            for item in page["Exports"]
        }
        made = {}
        for concern in Concern:
            stack = find_stack(administrator, stack_name("every", concern))
            assert stack is not None
            found = administrator.cloudformation.describe_stack_resources(StackName=stack.name)[
                "StackResources"
            ]
            physical = {item["LogicalResourceId"]: item["PhysicalResourceId"] for item in found}
            made[concern] = Resolver(administrator, concern, stack, physical, exports)
        yield made


@pytest.mark.local_aws
@pytest.mark.parametrize("concern", list(Concern))
def test_every_property_of_every_resource_is_what_its_service_reports(
    stages: dict[Concern, Resolver], concern: Concern, account: Account
) -> None:
    """The service reports every property of every resource as the template sets it."""
    stage, lost = stages[concern], []
    for logical_id, resource in resources_made(concern, stage.values).items():
        wanted = stated(stage, logical_id)
        reported = READERS[resource["Type"]](stage, stage.physical[logical_id], wanted)
        lost += list(differences(wanted, reported, logical_id))
    assert not lost, "\n".join(lost)


@pytest.mark.local_aws
@pytest.mark.parametrize("concern", list(Concern))
def test_nothing_is_set_that_no_template_states(
    stages: dict[Concern, Resolver], concern: Concern, account: Account
) -> None:
    """A property that a service reports is in the template, or is AWS's documented default."""
    stage = stages[concern]
    found = [
        f"{logical_id}{more}"
        for logical_id in resources_made(concern, stage.values)
        for more in unstated(stage, logical_id)
    ]
    assert not found, "\n".join(found)


def stated(stage: Resolver, logical_id: str) -> dict[str, Any]:
    """Return what the template states about a resource, also in resources of their own."""
    wanted: dict[str, Any] = with_stack_tags(stage.properties(logical_id), "every")
    if stage.resources[logical_id]["Type"] == "AWS::EC2::SecurityGroup":
        for direction in ("SecurityGroupIngress", "SecurityGroupEgress"):
            beside = [
                {key: value for key, value in stage.properties(name).items() if key != "GroupId"}
                for name, other in resources_made(stage.concern, stage.values).items()
                if other["Type"] == f"AWS::EC2::{direction}"
                and other["Properties"]["GroupId"] == {"Ref": logical_id}
            ]
            wanted = {**wanted, direction: [*wanted.get(direction, ()), *beside]}
    return wanted


def unstated(stage: Resolver, logical_id: str) -> list[str]:
    """List what the service reports for a resource, and no resource of the template states."""
    kind, wanted = stage.resources[logical_id]["Type"], stated(stage, logical_id)
    return list(additions(kind, wanted, READERS[kind](stage, stage.physical[logical_id], wanted)))


@pytest.mark.local_aws
def test_what_was_set_by_hand_is_seen(stages: dict[Concern, Resolver], account: Account) -> None:
    """A delay of a queue, a rule of a group and a policy of a role, each set by hand, are found."""
    clients = account.clients()
    evaluation, network, identity = (
        stages[one] for one in (Concern.EVALUATION, Concern.NETWORK, Concern.IDENTITY)
    )
    url, group = evaluation.physical["DeadLetters"], network.physical["TrainerSecurityGroup"]
    rule: dict[str, Any] = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}
    rule["IpRanges"] = [{"CidrIp": "0.0.0.0/0"}]
    everything = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    policy = {"Version": "2012-10-17", "Statement": [everything]}
    role = {"RoleName": "nightshift-every-trainer", "PolicyName": "more"}
    clients.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "7"})
    clients.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
    clients.iam.put_role_policy(**role, PolicyDocument=json.dumps(policy))
    try:
        assert unstated(evaluation, "DeadLetters") == [".DelaySeconds=7"]
        assert len(unstated(network, "TrainerSecurityGroup")) == 1
        assert len(unstated(identity, "TrainerRole")) == 1
    finally:
        clients.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "0"})
        clients.ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[rule])
        clients.iam.delete_role_policy(**role)
    assert not unstated(evaluation, "DeadLetters")


@pytest.mark.local_aws
def test_what_no_switch_makes_is_known(stages: dict[Concern, Resolver], account: Account) -> None:
    """Only the listed resources are not created by these options."""
    left = {
        name
        for concern, stage in stages.items()
        for name in set(template(concern)["Resources"]) - set(resources_made(concern, stage.values))
    }
    assert left == NEEDS_MORE_ZONES


def test_what_is_lost_is_seen() -> None:
    """A missing property, another value and an additional item are each named."""
    wanted = {"A": 1, "B": {"C": [True, "x"]}, "D": ["only"]}
    assert (
        list(differences(wanted, {"A": "1.0", "B": {"C": ["x", "true"]}, "D": "only", "More": 1}))
        == []
    )
    assert list(differences(wanted, {"A": 2, "B": {}, "D": ["only", "more"]}, "It")) == [
        "It.A: '1' is reported as '2'",
        "It.B.C: not reported",
        "It.D: 'only' is reported as ['more', 'only']",
    ]
