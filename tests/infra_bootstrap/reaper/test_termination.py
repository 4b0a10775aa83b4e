"""Machines are terminated until none is left, and what is left is reported."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
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


class FakeLateEc2:
    """An EC2 that does not know a machine for a number of calls."""

    def __init__(self, code: str, late: int) -> None:
        self.code, self.late, self.ended = code, late, list[str]()

    def terminate_instances(self, **request: Any) -> dict[str, Any]:
        """Terminate machines, or answer that there is none."""
        if self.late:
            self.late -= 1
            error: Any = {"Error": {"Code": self.code, "Message": "not yet"}}
            raise ClientError(error, "TerminateInstances")
        self.ended += request["InstanceIds"]
        return {"TerminatingInstances": []}


@pytest.mark.parametrize("code", ["InvalidInstanceID.NotFound", "UnauthorizedOperation"])
def test_a_machine_that_was_just_listed_is_terminated_when_ec2_knows_it(code: str) -> None:
    """Where EC2 does not know the machine yet, it does not know the tags of our policy either."""
    ec2, pauses = FakeLateEc2(code, 2), list[float]()
    client: Any = ec2
    terminate(client, ["i-1"], (0.2, 0.4, 0.8), pauses.append)
    assert (ec2.ended, pauses) == (["i-1"], [0.2, 0.4])


@pytest.mark.parametrize("code", ["InvalidInstanceID.NotFound", "UnauthorizedOperation"])
def test_a_machine_that_ec2_does_not_know_after_all_pauses_is_an_error(code: str) -> None:
    """It may run, so nothing may count it as gone."""
    client: Any = FakeLateEc2(code, 9)
    with pytest.raises(ClientError, match=code):
        terminate(client, ["i-1"], (0.2,), lambda _: None)


@pytest.mark.parametrize(
    ("code", "pauses_s"),
    [("UnauthorizedOperation", ()), ("RequestLimitExceeded", (0.2,)), ("Unavailable", ())],
)
def test_other_refusals_are_errors_at_once(code: str, pauses_s: tuple[float, ...]) -> None:
    """They say nothing about the machine."""
    client: Any = FakeLateEc2(code, 9)
    with pytest.raises(ClientError, match=code):
        terminate(client, ["i-1"], pauses_s, lambda _: pytest.fail("it paused"))
