"""Each property of each resource in the templates is reported by the resource's service.

The test walks over the templates, so a new resource or property that no reader returns fails here.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra_bootstrap.stacks.concerns import Concern, stack_name
from infra_bootstrap.stacks.deployed import find_stack
from infra_bootstrap.stacks.settings import DeploymentSettings
from infra_bootstrap.stacks.template_files import resources_made, template
from tests.infra_bootstrap.accounts import PYTHON, Account, Deployment
from tests.infra_bootstrap.stacks.reading_back import (
    READERS,
    Resolver,
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
        settings = DeploymentSettings(
            "every",
            lambda_runtime=f"python{PYTHON}",
            parameters=EVERY_SWITCH | {"KmsKeyArn": key, "OperatorArn": operator},
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
        wanted = with_stack_tags(stage.properties(logical_id), "every")
        reported = READERS[resource["Type"]](stage, stage.physical[logical_id], wanted)
        lost += list(differences(wanted, reported, logical_id))
    assert not lost, "\n".join(lost)


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
