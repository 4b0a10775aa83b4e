"""Every displayed price is marked as approximate."""

from __future__ import annotations

import json
import re

import pytest

from infra_bootstrap.stacks import costs
from infra_bootstrap.stacks.concerns import Concern
from infra_bootstrap.stacks.template_files import resources_made
from rl_trainer.reporting.heartbeat import LONGEST_S
from tests.infra_bootstrap.accounts import ROOT, Deployment

GUIDE = (ROOT / "docs/aws-account.md").read_text().split("## What it costs")[1].split("\n## ")[0]
COMMANDS = (ROOT / "infra_bootstrap/commands/actions.py").read_text()


@pytest.mark.parametrize(
    "text", [costs.__doc__ or "", GUIDE], ids=["costs.py", "docs/aws-account.md"]
)
def test_prices_have_a_source_and_are_approximate(text: str) -> None:
    """The source of the prices is stated, and that they are approximate."""
    words = " ".join(text.split())
    assert "approximate" in words
    assert "list prices of us-east-1" in words
    assert "from general knowledge" in words
    assert re.search(r"not (fetched )?from AWS", words)


def test_what_is_printed_says_approximate() -> None:
    """A plan's price and a first run's price are both marked as approximate."""
    assert "approximate list prices of us-east-1" in COMMANDS
    assert "by an approximate price table" in COMMANDS
    assert "at list price" not in COMMANDS


@pytest.mark.parametrize(
    ("parameter", "concern", "about"),
    [("EnableNat", Concern.NETWORK, 37), ("EnableSessionManager", Concern.NETWORK, 15)],
)
def test_the_guide_says_what_the_sum_says(parameter: str, concern: Concern, about: int) -> None:
    """The guide's monthly cost of a parameter equals the plan's sum."""
    off, on = (
        costs.monthly_usd(resources_made(concern, {parameter: value}))
        for value in ("false", "true")
    )
    assert abs(on - off - about) <= 0.5
    assert f"| `{parameter}=true` | about {about} USD a month |" in GUIDE


def test_a_plan_says_what_changes_and_what_that_costs(dev: Deployment) -> None:
    """A plan for a NAT lists changes and monthly costs, and leaves nothing behind."""
    done = dev.account.cli(
        "plan",
        "--environment",
        "dev",
        "--stack",
        "network",
        "--parameter",
        "EnableNat=true",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["monthly_usd"] - plan["monthly_usd_now"] == pytest.approx(32.85 + 3.65)
    found = {change["resource"]: change["kind"] for change in plan["stacks"][0]["changes"]}
    assert found["NatGateway"] == found["PublicSubnet"] == "added"
    assert "TrainerSecurityGroup" in found
    cloudformation = dev.as_role("administrator").cloudformation
    left = cloudformation.list_change_sets(StackName="nightshift-dev-network")["Summaries"]
    assert [change_set for change_set in left if change_set["ExecutionStatus"] == "AVAILABLE"] == []
    output = dev.account.cli(
        "plan", "--environment", "dev", "--stack", "network", "--parameter", "EnableNat=true"
    ).stdout
    assert "added           NatGateway (AWS::EC2::NatGateway)" in output
    assert "NatGateway 32.85, NatAddress 3.65, FlowLog 0.50), now 0.50" in output


def test_what_heartbeats_cost_is_what_the_trainer_writes() -> None:
    """The guide's cost of heartbeats follows from the trainer's longest pause and the prices."""
    assert f"a PUT every {LONGEST_S:g} s after" in GUIDE
    assert f"about {costs.heartbeats_usd_an_hour(LONGEST_S):.4f} USD an hour and machine" in GUIDE
    assert round(8 * 3600 / LONGEST_S, -2) == 1900
