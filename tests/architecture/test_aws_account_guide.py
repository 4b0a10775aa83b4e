"""The guide to a real AWS account agrees with the templates and the command line."""

import re
from pathlib import Path

from infra_bootstrap.commands.cli import build_parser
from infra_bootstrap.commands.smoke import CAP_USD, DEADLINE, EXPERIMENT, INSTANCE_TYPES, REST_USD
from infra_bootstrap.stacks.concerns import DEPENDENCIES, Concern
from infra_bootstrap.stacks.template_files import parameters_of, template

GUIDE = (Path(__file__).resolve().parents[2] / "docs/aws-account.md").read_text()


def test_every_stack_and_what_it_needs_is_in_the_table() -> None:
    """The guide's table lists every stack in deployment order, and no other stack."""
    rows = dict(
        re.findall(r"^\| `nightshift-<environment>-(\w+)` \| [^|]+ \| ([^|]+) \|$", GUIDE, re.M)
    )
    needs = {
        str(concern): ", ".join(found) or "an administrator"
        for concern, found in DEPENDENCIES.items()
    }
    assert {name: needed for name, needed in rows.items() if name in needs} == needs


def test_every_role_is_in_the_table() -> None:
    """The guide explains each role that the identity stack creates, and no other role."""
    made = {
        resource["Properties"]["RoleName"]["Fn::Sub"].removeprefix("nightshift-${Environment}-")
        for resource in template(Concern.IDENTITY)["Resources"].values()
        if resource["Type"] == "AWS::IAM::Role"
    }
    section = GUIDE.split("## Who may do what")[1].split("## Drift")[0]
    assert set(re.findall(r"^\| `nightshift-<environment>-([\w-]+)`", section, re.M)) == made


def test_every_parameter_that_is_named_exists() -> None:
    """Each parameter that the guide names is a parameter of a template."""
    known = {name for concern in Concern for name in parameters_of(concern)}
    rows = GUIDE.split("## Other choices")[1].split("## Taking it away")[0]
    named = {
        word
        for row in re.findall(r"^\| (.+?) \|", rows, re.M)
        for word in re.findall(r"`(\w+)`", row)
    }
    assert named
    assert named <= known


def test_the_parser_accepts_every_command_of_the_guide() -> None:
    """The parser accepts every command and option that the guide shows."""
    shown = re.findall(r"^    \.venv/bin/python -m infra_bootstrap (.+)$", GUIDE, re.M)
    assert len(shown) >= 5
    for line in shown:
        build_parser().parse_args(line.split())


def test_what_the_first_run_costs_is_what_the_code_enforces() -> None:
    """The guide's cap, reserve, deadline, steps and types are those of the code."""
    assert f"spend up to {CAP_USD:.2f} USD" in GUIDE
    assert f"{REST_USD:.2f} USD for everything else" in GUIDE
    assert f"a deadline of {DEADLINE.seconds // 60} minutes" in GUIDE
    assert f"{EXPERIMENT['total_timesteps']:,} steps" in GUIDE
    assert all(f"`{name}`" in GUIDE for name in INSTANCE_TYPES)
