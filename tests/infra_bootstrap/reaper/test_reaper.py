"""The reaper ends late machines only, and fails loudly when it cannot end one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from moto import mock_aws

from infra_bootstrap.reaper.reaper import (
    DEADLINE_TAG,
    ENVIRONMENT_TAG,
    TAG_PREFIX,
    find_machines,
    is_overdue,
    overdue_reason,
    read_deadline,
    reap,
)
from rl_lifecycle.machines import launch_requests
from tests.infra_bootstrap.accounts import Deployment
from tests.infra_bootstrap.stacks.test_least_privilege import fleet

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def machine(deadline: str | None, launched: datetime = NOW) -> dict[str, Any]:
    """Describe a machine as DescribeInstances does."""
    tags = [{"Key": ENVIRONMENT_TAG, "Value": "dev"}]
    if deadline is not None:
        tags.append({"Key": DEADLINE_TAG, "Value": deadline})
    return {"InstanceId": "i-1", "LaunchTime": launched, "Tags": tags}


@pytest.mark.parametrize(
    ("deadline", "late"),
    [
        ("2026-11-22T12:00:00Z", True),
        ("2026-11-22T12:00:01Z", False),
        ("2026-11-22T13:00:00+02:00", True),
        ("2026-11-22T11:59:59", True),
    ],
)
def test_a_deadline_is_a_moment_whatever_its_offset(deadline: str, late: bool) -> None:
    """ISO times with Z, with an offset, and without one, which is UTC."""
    assert is_overdue(machine(deadline), NOW) is late


@pytest.mark.parametrize("deadline", [None, "", "tomorrow"])
def test_a_machine_without_a_readable_deadline_gets_an_hour(deadline: str | None) -> None:
    """A machine without a readable deadline gets an hour."""
    assert not is_overdue(machine(deadline, NOW - timedelta(minutes=59)), NOW)
    assert is_overdue(machine(deadline, NOW - timedelta(minutes=61)), NOW)
    assert read_deadline(deadline or "") is None


def test_grace_counts_from_the_deadline_alone() -> None:
    """Airflow gives a machine ten minutes to end itself; one without a deadline gets no more."""
    grace, tags = timedelta(minutes=10), {DEADLINE_TAG: "2026-11-22T11:55:00Z"}
    assert overdue_reason(tags, NOW, NOW) == "its deadline was 2026-11-22 11:55 UTC"
    assert overdue_reason(tags, NOW, NOW, grace) is None
    assert overdue_reason(tags, NOW, NOW + timedelta(minutes=5), grace) is not None
    assert (
        overdue_reason({}, NOW - timedelta(minutes=61), NOW, grace) == "it has no readable deadline"
    )


def test_the_reaper_reads_the_tags_that_a_launch_writes() -> None:
    """The zip has no copy of `rl_lifecycle`, so the reaper spells the prefix itself."""
    assert TAG_PREFIX == launch_requests.TAG_PREFIX


@mock_aws
def test_only_late_machines_of_this_environment_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """With moto's EC2, only the late machine of this environment is ended out of four."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    ec2: Any = boto3.client(
        "ec2", region_name="eu-west-1", aws_access_key_id="none", aws_secret_access_key="none"
    )
    image = ec2.describe_images()["Images"][0]["ImageId"]

    def launch(environment: str, deadline: str) -> str:
        tags = [
            {"Key": ENVIRONMENT_TAG, "Value": environment},
            {"Key": DEADLINE_TAG, "Value": deadline},
        ]
        made = ec2.run_instances(
            ImageId=image,
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
        )
        return str(made["Instances"][0]["InstanceId"])

    past, future = "2026-11-22T11:00:00Z", "2026-11-22T13:00:00Z"
    late, _, _, _ = (
        launch("dev", past),
        launch("dev", future),
        launch("prod", past),
        launch("prod", future),
    )
    assert reap(ec2, "dev", NOW) == {"seen": 2, "ended": [late]}
    assert late not in {found["InstanceId"] for found in find_machines(ec2, "dev")}


def test_a_machine_that_cannot_be_ended_fails_the_reaper(dev: Deployment) -> None:
    """A refused termination raises, because an alarm on the function's errors informs a person."""

    class FakeEc2:
        """An EC2 client whose role may describe machines but not end them."""

        def __init__(self, ec2: Any) -> None:
            self.ec2 = ec2

        def get_paginator(self, name: str) -> Any:
            return self

        def paginate(self, **_: Any) -> list[dict[str, Any]]:
            return [{"Reservations": [{"Instances": [machine("2026-11-22T11:00:00Z")]}]}]

        def terminate_instances(self, **request: Any) -> Any:
            return self.ec2.terminate_instances(**request)

    with pytest.raises(RuntimeError, match="i-1: "):
        reap(FakeEc2(dev.as_role("airflow-worker").ec2), "dev", NOW)


def test_the_deployed_reaper_ends_a_late_machine_and_spares_the_other(dev: Deployment) -> None:
    """The deployed function, with its own role and without Airflow, ends only the late machine."""
    launched = []
    for hours in (-1, 1):
        request = fleet(dev) | {"DryRun": False}
        deadline = (datetime.now(UTC) + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
        for tag in request["TagSpecifications"][0]["Tags"]:
            tag["Value"] = deadline if tag["Key"] == DEADLINE_TAG else tag["Value"]
        launched.append(
            dev.as_role("launcher").ec2.create_fleet(**request)["Instances"][0]["InstanceIds"][0]
        )
    late, early = launched
    try:
        answer = (
            dev.as_role("administrator")
            .client("lambda")
            .invoke(FunctionName="nightshift-dev-reaper", Payload=b"{}")
        )
        assert "FunctionError" not in answer, answer["Payload"].read()
        states = {
            found["InstanceId"]
            for found in find_machines(dev.as_role("administrator").ec2, "dev")
            if found["State"]["Name"] in ("pending", "running")
        }
        assert late not in states
    finally:
        dev.as_role("launcher").ec2.terminate_instances(InstanceIds=[late, early])
