"""A budget is made only where CloudFormation can make one, and preflight says where it cannot."""

from __future__ import annotations

import boto3
import pytest
from botocore.stub import Stubber

from infra_bootstrap.clients import Clients
from infra_bootstrap.preflight.checklist import make_check
from infra_bootstrap.preflight.results import CheckResult, Situation
from infra_bootstrap.stacks.concerns import Concern
from infra_bootstrap.stacks.settings import DeploymentSettings
from infra_bootstrap.stacks.template_files import resources_made


class NewAccount(Clients):
    """Clients of an account without stacks."""

    def __init__(self, region: str) -> None:
        super().__init__(boto3.Session("none", "none", region_name=region))
        stub = Stubber(self.cloudformation)
        stub.add_client_error("describe_stacks", "ValidationError", "Stack does not exist")
        stub.activate()


@pytest.mark.parametrize("asked", ["50", "0"])
@pytest.mark.parametrize(("region", "has_budgets"), [("eu-west-1", True), ("eu-north-1", False)])
def test_a_region_without_budgets_is_refused_and_the_template_makes_none(
    region: str, has_budgets: bool, asked: str
) -> None:
    """Where budgets are missing a stack has none, and preflight says how to make it."""
    settings = DeploymentSettings("dev", parameters={"MonthlyBudgetUsd": asked})
    values = {"MonthlyBudgetUsd": asked, "AWS::Region": region}
    made = "Budget" in resources_made(Concern.EVALUATION, values)
    assert made == (has_budgets and asked != "0")

    found = make_check("budget", Situation(NewAccount(region), settings))

    assert [check.verdict for check in found] == (
        [] if asked == "0" else [CheckResult.GOOD] if has_budgets else [CheckResult.FAILED]
    )
    if asked != "0" and not has_budgets:
        assert "Billing console" in found[0].fix
        assert "nightshift:environment=dev" in found[0].fix
