"""Machines are terminated until none is left, and what is left is reported."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from moto import mock_aws

from infra_bootstrap.reaper.reaper import ENVIRONMENT_TAG, PRESENT, find_machines
from infra_bootstrap.reaper.termination import terminate, terminate_until_gone


def launch(ec2: Any) -> str:
    """Launch a machine of the environment dev. :return: its id."""
    made = ec2.run_instances(
        ImageId=ec2.describe_images()["Images"][0]["ImageId"],
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": [{"Key": ENVIRONMENT_TAG, "Value": "dev"}]}
        ],
    )
    return str(made["Instances"][0]["InstanceId"])


def client(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a client of moto's EC2."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    return boto3.client(
        "ec2", region_name="eu-west-1", aws_access_key_id="none", aws_secret_access_key="none"
    )


@mock_aws
def test_an_empty_answer_proves_that_no_machine_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines are terminated, and listed again until none is left."""
    ec2, pauses = client(monkeypatch), list[float]()
    launch(ec2), launch(ec2)
    left = terminate_until_gone(
        ec2, lambda: find_machines(ec2, "dev", states=PRESENT), wait_s=10, sleep=pauses.append
    )
    assert left == ()
    assert pauses == [0.2]
    states = [machine["State"]["Name"] for machine in find_machines(ec2, "dev", states=None)]
    assert states == ["terminated", "terminated"]


@mock_aws
def test_a_machine_that_does_not_end_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ids of the machines that are left come back when the time is up."""
    ec2, pauses = client(monkeypatch), list[float]()
    name = launch(ec2)
    stuck: Any = {"InstanceId": name, "State": {"Name": "shutting-down"}}
    assert terminate_until_gone(ec2, lambda: [stuck], wait_s=5, sleep=pauses.append) == (name,)
    assert sum(pauses) >= 5
    assert [machine["State"]["Name"] for machine in find_machines(ec2, "dev")] == ["running"]


@mock_aws
def test_a_machine_that_is_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """EC2 forgets a terminated machine after about an hour."""
    ec2 = client(monkeypatch)
    name = launch(ec2)
    terminate(ec2, ["i-00000000000000000", name])
    assert list(find_machines(ec2, "dev")) == []
