"""`make aws-smoke` needs exact words and an empty account, runs once and leaves nothing."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from infra_bootstrap.commands import smoke
from infra_bootstrap.commands.smoke import CAP_USD, confirmation, highest_usd, run_smoke
from infra_bootstrap.errors import BadInputError
from infra_bootstrap.preflight.traces import find_traces, roles
from infra_bootstrap.stacks.concerns import Concern, bucket_name, stack_name
from infra_bootstrap.stacks.deployed import find_stack
from infra_bootstrap.stacks.settings import DeploymentSettings
from tests.infra_bootstrap.accounts import PYTHON, ROOT, Account, Deployment, remove_vpc


@pytest.mark.parametrize(
    "confirm",
    [
        "",
        "yes",
        "spend up to 1.00 USD",
        "spend up to 1.00 USD in account 123456789012, region eu-west-1",
        "spend up to 1.00 USD in account 999999999999, region eu-west-1, environment smoke",
        "spend up to 1.00 USD in account 123456789012, region eu-west-1, environment prod",
    ],
)
def test_without_the_exact_words_nothing_is_made(account: Account, confirm: str) -> None:
    """Words for another account or environment are refused with the cost and the words to type."""
    done = account.cli("smoke", "--confirm", confirm)
    assert (done.returncode, done.stdout) == (2, "")
    assert f'make aws-smoke CONFIRM="{confirmation(account.clients(), "smoke")}"' in done.stderr
    assert find_stack(account.clients(), "nightshift-smoke-identity") is None


def test_another_environments_words_name_it(account: Account) -> None:
    """The refusal for another environment shows the command for that environment."""
    done = account.cli(
        "smoke", "--environment", "trial", "--confirm", confirmation(account.clients(), "smoke")
    )
    assert done.returncode == 2
    words = confirmation(account.clients(), "trial")
    assert f'python -m infra_bootstrap smoke --environment trial --confirm "{words}"' in done.stderr


def test_an_environment_that_lives_is_not_touched(dev: Deployment) -> None:
    """An existing environment is left unchanged, even with the exact words."""
    administrator = dev.as_role("administrator")
    tags = [
        {"ResourceType": "instance", "Tags": [{"Key": "nightshift:environment", "Value": "dev"}]}
    ]
    made = administrator.ec2.run_instances(
        ImageId=dev.outputs.image_id,
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=tags,
        UserData="#!/bin/sh\nsleep 600\n",
    )["Instances"][0]["InstanceId"]
    try:
        done = dev.account.cli(
            "smoke", "--environment", "dev", "--confirm", confirmation(administrator, "dev")
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert "nothing was made and nothing destroyed: dev exists" in done.stderr
        assert all(find_stack(administrator, stack_name("dev", concern)) for concern in Concern)
        administrator.s3.head_bucket(Bucket=dev.bucket)
        state = administrator.ec2.describe_instances(InstanceIds=[made])["Reservations"][0][
            "Instances"
        ][0]["State"]["Name"]
        assert state in ("pending", "running")
        assert set(find_traces(administrator, "dev")) == {
            *(f"stack nightshift-dev-{concern}" for concern in Concern),
            f"bucket {dev.bucket}",
            *(f"role nightshift-dev-{role}" for role in roles()),
            f"machine {made}",
        }
    finally:
        administrator.ec2.terminate_instances(InstanceIds=[made])


@pytest.fixture(params=["bucket", "role"])
def half(account: Account, request: pytest.FixtureRequest) -> Iterator[str]:
    """An environment without stacks that has one resource, such as a kept bucket."""
    clients: Any = account.clients()
    bucket, role = (
        bucket_name("half", account.account_id, account.region),
        "nightshift-half-promoter",
    )
    if request.param == "bucket":
        clients.s3.create_bucket(
            Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": account.region}
        )
        clients.s3.put_object(Bucket=bucket, Key="registry/exp/champion.json", Body=b"{}")
        yield f"bucket {bucket}"
        clients.s3.delete_object(Bucket=bucket, Key="registry/exp/champion.json")
        clients.s3.delete_bucket(Bucket=bucket)
    else:
        trust = {
            "Effect": "Allow",
            "Principal": {"Service": "ec2.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        clients.iam.create_role(RoleName=role, AssumeRolePolicyDocument=document)
        yield f"role {role}"
        clients.iam.delete_role(RoleName=role)


def test_one_thing_that_exists_is_enough_to_refuse(account: Account, half: str) -> None:
    """A bucket without stacks, or a role of a stack in another region, is refused and kept."""
    clients, output = account.clients(), list[str]()
    with pytest.raises(BadInputError, match=f"half exists \\({half}\\)"):
        run_smoke(
            clients,
            DeploymentSettings("half", lambda_runtime=f"python{PYTHON}"),
            confirmation(clients, "half"),
            output.append,
        )
    assert list(find_traces(clients, "half")) == [half]
    assert output == []


def test_a_new_environment_has_no_traces(account: Account) -> None:
    """An environment that never existed has no traces, so the refusals above can tell."""
    assert list(find_traces(account.clients(), "untouched")) == []


def test_the_highest_possible_cost_is_below_the_cap() -> None:
    """The highest possible cost, which is computed before the run, is below the cap."""
    assert 0 < highest_usd(DeploymentSettings("smoke")) <= CAP_USD


def test_the_highest_cost_includes_the_volume() -> None:
    """A larger volume costs more: gp3 at 0.08 USD a GiB and month, for an hour and a half."""
    usual = highest_usd(DeploymentSettings("smoke"))
    large = highest_usd(DeploymentSettings("smoke", parameters={"VolumeGib": "1100"}))
    assert large - usual == pytest.approx(1000 * 0.08 / 730 * 1.5, abs=0.01)


def test_what_could_cost_more_than_the_cap_is_refused(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deadline that could pass the cap is refused even with the exact words."""
    monkeypatch.setattr(smoke, "DEADLINE", timedelta(hours=24))
    clients, output = account.clients(), list[str]()
    with pytest.raises(
        BadInputError,
        match=r"it could cost \d+\.\d\d USD, more than the cap of 1\.00: nothing was made",
    ):
        run_smoke(
            clients,
            DeploymentSettings("smoke", lambda_runtime=f"python{PYTHON}"),
            confirmation(clients, "smoke"),
            output.append,
        )
    assert list(find_traces(clients, "smoke")) == []
    assert output == []


def make(account: Account, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `make aws-smoke` as an administrator."""
    environ = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("AWS_", "MAKE", "MFLAGS"))
    }
    environ |= account.variables("administrator") | {"NIGHTSHIFT_STATE": str(ROOT / ".nightshift")}
    return subprocess.run(
        ["make", "--old-file=setup", "aws-smoke", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=environ,
    )


def test_make_refuses_without_the_words(account: Account) -> None:
    """`make aws-smoke` without the words fails and prints the words to type."""
    done = make(account)
    assert done.returncode != 0
    assert f'make aws-smoke CONFIRM="{confirmation(account.clients(), "smoke")}"' in done.stderr


@pytest.fixture
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """An account as a newcomer has it: no Airflow role, no default VPC, and AWS's usual lags."""
    account = Account(tmp_path_factory.mktemp("empty") / "state", "--pace", "fast")
    try:
        with account.reachable():
            clients = account.clients()
            clients.iam.delete_role(RoleName="airflow-worker")
            for vpc in clients.ec2.describe_vpcs()["Vpcs"]:
                remove_vpc(clients, vpc["VpcId"])
            assert clients.ec2.describe_vpcs()["Vpcs"] == []
            yield account
    finally:
        account.down()


@pytest.mark.local_aws
def test_one_whole_run_in_an_empty_account_leaves_nothing(empty: Account) -> None:
    """The run bootstraps, trains, evaluates in the real Lambda, destroys and leaves nothing.

    A missing default VPC does not matter. The run attaches nothing to a role of the account, and
    ends with a file for a bug report.
    """
    administrator = empty.clients()
    roles_before = {role["RoleName"] for role in administrator.iam.list_roles()["Roles"]}
    assert "airflow-worker" not in roles_before
    with empty.fault("late_visibility", "seconds=8"):
        done = make(
            empty,
            f"CONFIRM={confirmation(administrator, 'smoke')}",
            f"ARGS=--json --lambda-runtime python{PYTHON}",
        )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["usd"] <= highest_usd(DeploymentSettings("smoke")) <= CAP_USD
    assert report["trained_steps"] == 40_960
    assert report["mean_return"] is not None
    assert report["destruction"]["leftovers"] == []
    assert report["destruction"]["unknown"] == []
    assert len(report["destruction"]["deleted"]) == 6
    after = {role["RoleName"] for role in administrator.iam.list_roles()["Roles"]}
    assert all(name.startswith("AWSServiceRole") for name in after - roles_before)
    path = Path(done.stderr.split("for a bug report: ")[1].splitlines()[0])
    text = path.read_text()
    path.unlink()
    found = json.loads(text)
    assert (found["result"], found["errors"], found["denials"]) == ("succeeded", [], [])
    calls = {(row["service"], row["operation"]): row["count"] for row in found["calls"]}
    assert calls["ec2", "CreateFleet"] == 1
    assert calls["cloudformation", "ExecuteChangeSet"] == 5
    assert "Encoded" not in text


@pytest.mark.local_aws
def test_a_denied_launch_is_explained_and_everything_is_destroyed(
    empty: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launch that the launcher's policy denies ends with the condition that failed."""
    clients, output = empty.clients(), list[str]()
    tags = smoke.trial_tags

    def without_deadline(*given: Any) -> dict[str, str]:
        return {key: value for key, value in tags(*given).items() if "deadline" not in key}

    monkeypatch.setattr(smoke, "trial_tags", without_deadline)
    with pytest.raises(smoke.SmokeFailedError, match="AWS started no machine") as caught:
        run_smoke(
            clients,
            DeploymentSettings("smoke", lambda_runtime=f"python{PYTHON}"),
            confirmation(clients, "smoke"),
            output.append,
        )
    assert "OnlyOurKindOfMachine: Null aws:RequestTag/nightshift:deadline" in str(caught.value)
    assert "Encoded authorization" not in str(caught.value)
    assert list(find_traces(clients, "smoke")) == []
    found = json.loads(Path(output[-1].removeprefix("for a bug report: ")).read_text())
    assert found["result"] == "failed"
    assert "OnlyOurKindOfMachine" in found["denials"][0]
