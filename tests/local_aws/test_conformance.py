"""The conformance table holds on the local AWS, with its lags on, and removes what it creates.

`python -m tests.local_aws.conformance` runs the same table on a real account.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.local_aws.answers import unlike_aws
from tests.local_aws.conformance.__main__ import MOST_USD, as_table, cost_usd, main
from tests.local_aws.conformance.account import PREFIX, Account, Row, Seen
from tests.local_aws.conformance.launch_rows import launch
from tests.local_aws.conformance.leftovers import TAGGED, remove_leftovers
from tests.local_aws.conformance.table import DOCS, TABLE
from tests.local_aws.conftest import ROOT, LocalAwsUnderTest, run_cli, start, trust, until


@pytest.fixture(scope="module")
def usual_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAwsUnderTest]:
    """A local AWS of the usual pace, on which every launch is late.

    It is in us-east-1, where buckets are made in another way, and zones offer different types.
    """
    state = tmp_path_factory.mktemp("conformance") / "state"
    started = start(state, "--region", "us-east-1")
    yield started
    answers = started.cli("status")["answers"]
    run_cli("down", "--state", str(state))
    found = unlike_aws(answers)
    assert not found, sorted(found)


@pytest.fixture
def account(usual_aws: LocalAwsUnderTest) -> Iterator[Account]:
    """The account of the table."""
    made = Account(usual_aws.client, usual_aws.region)
    yield made
    made.clean()


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
    seen = row.look(account)
    assert seen.holds == (row.name not in unmet()), f"{seen.what} ({row.source})"


def test_the_documentation_lists_no_row_that_does_not_exist() -> None:
    """The list of rows not met names only existing rows."""
    assert unmet() <= {row.name for row in TABLE}


def test_every_row_has_a_source() -> None:
    """Each row names the page of AWS that documents it, and has its own name."""
    assert all(row.source.startswith(DOCS) for row in TABLE)
    assert len({row.name for row in TABLE}) == len(TABLE)


def test_the_whole_table_costs_less_than_ten_cents() -> None:
    """The cost is that of all machines that the rows may launch, each at its longest."""
    assert 0 < cost_usd(TABLE) < MOST_USD
    assert cost_usd(TABLE) > cost_usd([row for row in TABLE if not row.launches])


def test_what_a_killed_run_has_left_is_removed(usual_aws: LocalAwsUnderTest) -> None:
    """Everything is found by its name or tag, also a machine, and nothing else is touched."""
    killed = Account(usual_aws.client, usual_aws.region)
    s3, bucket = killed.bucket()
    s3.put_object(Bucket=bucket, Key="x", Body=b"x")
    template, machine = killed.template(), launch(killed)
    name, iam = f"{PREFIX}-left", killed.client("iam")
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust({"Service": "ec2.amazonaws.com"}))
    iam.create_instance_profile(InstanceProfileName=name)
    iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    killed.client("sqs").create_queue(QueueName=name)
    killed.client("ssm").put_parameter(Name=f"/{name}", Value="1", Type="String")
    # A call by tag may find a new machine later than a call by its id.
    filters = [*TAGGED, {"Name": "instance-id", "Values": [machine]}]
    until(
        lambda: killed.client("ec2").describe_instances(Filters=filters)["Reservations"],
        "the machine in a call by its tag",
        killed.patience_s,
    )

    later = Account(usual_aws.client, usual_aws.region)
    removed = remove_leftovers(later)
    assert {machine, bucket, name, f"/{name}"} <= set(removed)
    assert later.state_of(machine) == "terminated"
    ids = later.client("ec2").describe_launch_templates()["LaunchTemplates"]
    assert template not in {one["LaunchTemplateId"] for one in ids}
    assert remove_leftovers(later) == []
    roles = {one["RoleName"] for one in later.client("iam").list_roles()["Roles"]}
    assert {"administrator", "airflow-worker"} <= roles


def run_command(aws: LocalAwsUnderTest, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, with the credentials of a shell."""
    found = aws.credentials("administrator")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    return subprocess.run(
        [sys.executable, "-m", "tests.local_aws.conformance", *arguments],
        cwd=ROOT,
        env=inherited
        | {
            "AWS_ACCESS_KEY_ID": found["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"],
            "AWS_SESSION_TOKEN": found["Token"],
            "AWS_DEFAULT_REGION": aws.region,
            "AWS_ENDPOINT_URL": aws.endpoint_url,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_says_the_cost_and_prints_a_table_to_paste(
    usual_aws: LocalAwsUnderTest,
) -> None:
    """It runs nothing without --yes, and names no account in the table."""
    planned = run_command(usual_aws)
    assert (planned.returncode, planned.stdout) == (0, "")
    assert f"{len(TABLE)} rows, at most" in planned.stderr
    assert "add --yes" in planned.stderr
    done = run_command(usual_aws, "--yes", "--only", "creation")
    assert done.returncode == 0, done.stderr
    assert "| one of several creations wins | yes | " in done.stdout
    assert "123456789012" not in done.stdout


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows that do not exist are refused."""
    assert main(["--yes", "--only", "no such row"]) == 2
    assert "choose at least one row" in capsys.readouterr().err


def test_a_row_that_fails_is_told_in_the_table() -> None:
    """The table says what was seen, in one line a row."""
    import datetime as dt

    row = Row("a row", DOCS, lambda _: True)
    at: Any = dt.datetime(2026, 11, 30, tzinfo=dt.UTC)
    text = as_table([(row, Seen(False, "a|b\nc"))], "eu-west-1", at)
    assert text.endswith(f"| a row | NO | a/b c | {DOCS} |")
    assert "0 of 1 rows hold" in text
