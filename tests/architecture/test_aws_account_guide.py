"""The guide to a real account says what the templates and the command line say."""

import re
from pathlib import Path

from infra_bootstrap.commands.cli import build_parser
from infra_bootstrap.commands.smoke import CAP_USD, DEADLINE, EXPERIMENT, INSTANCE_TYPES, REST_USD
from infra_bootstrap.stacks.concerns import DEPENDENCIES, Concern
from infra_bootstrap.stacks.template_files import parameters_of, template

GUIDE = (Path(__file__).resolve().parents[2] / "docs/aws-account.md").read_text()


def test_every_stack_and_what_it_needs_is_in_the_table() -> None:
    """A stack, its place in the order, and no other."""
    rows = dict(
        re.findall(r"^\| `nightshift-<environment>-(\w+)` \| [^|]+ \| ([^|]+) \|$", GUIDE, re.M)
    )
    needs = {
        str(concern): ", ".join(found) or "an administrator"
        for concern, found in DEPENDENCIES.items()
    }
    assert {name: needed for name, needed in rows.items() if name in needs} == needs


def test_every_role_is_in_the_table() -> None:
    """Each role that identity makes is explained, and none that it does not."""
    made = {
        resource["Properties"]["RoleName"]["Fn::Sub"].removeprefix("nightshift-${Environment}-")
        for resource in template(Concern.IDENTITY)["Resources"].values()
        if resource["Type"] == "AWS::IAM::Role"
    }
    section = GUIDE.split("## Who may do what")[1].split("## Drift")[0]
    assert set(re.findall(r"^\| `nightshift-<environment>-([\w-]+)`", section, re.M)) == made


def test_every_parameter_that_is_named_exists() -> None:
    """A parameter in the guide is one of a template."""
    known = {name for concern in Concern for name in parameters_of(concern)}
    rows = GUIDE.split("## Other choices")[1].split("## Taking it away")[0]
    named = {
        word
        for row in re.findall(r"^\| (.+?) \|", rows, re.M)
        for word in re.findall(r"`(\w+)`", row)
    }
    assert named
    assert named <= known


def test_every_command_and_option_that_is_shown_is_understood() -> None:
    """What a reader copies is accepted by the parser."""
    shown = re.findall(r"^    \.venv/bin/python -m infra_bootstrap (.+)$", GUIDE, re.M)
    assert len(shown) >= 5
    for line in shown:
        build_parser().parse_args(line.split())


def test_what_the_first_run_costs_is_what_the_code_enforces() -> None:
    """Cap, rest, deadline, steps and types are the program's own."""
    assert f"spend up to {CAP_USD:.2f} USD" in GUIDE
    assert f"{REST_USD:.2f} USD for everything else" in GUIDE
    assert f"a deadline of {DEADLINE.seconds // 60} minutes" in GUIDE
    assert f"{EXPERIMENT['total_timesteps']:,} steps" in GUIDE
    assert all(f"`{name}`" in GUIDE for name in INSTANCE_TYPES)
