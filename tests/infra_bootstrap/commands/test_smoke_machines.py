"""EC2 shows a new machine late, so a smoke run takes nothing from silence."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from infra_bootstrap.commands.smoke_machine import UNSEEN_S, SmokeMachine


class FakeEc2:
    """EC2 with one machine, which is shown from a time on, by its id and by its tag."""

    def __init__(self, by_id_at: float, by_tag_at: float) -> None:
        self.now, self.by_id_at, self.by_tag_at = 0.0, by_id_at, by_tag_at
        self.state, self.terminated_at = "running", None

    def clock(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def _answer(self) -> dict[str, Any]:
        reason = {"Code": "x", "Message": "Client.InternalError: Client error on launch"}
        machine = {"InstanceId": "i-1", "State": {"Name": self.state}, "StateReason": reason}
        return {"Reservations": [{"Instances": [machine]}]}

    def describe_instances(self, InstanceIds: list[str]) -> dict[str, Any]:
        """Answer about one id, which is not found at first."""
        assert InstanceIds == ["i-1"]
        if self.now < self.by_id_at:
            error = {"Error": {"Code": "InvalidInstanceID.NotFound", "Message": "not yet"}}
            raise ClientError(error, "DescribeInstances")
        return self._answer()

    def get_paginator(self, _name: str) -> Any:
        """Return the paginator of DescribeInstances."""
        return self

    def paginate(self, Filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Answer about tags and states."""
        states = [item["Values"] for item in Filters if item["Name"] == "instance-state-name"]
        hidden = self.now < self.by_tag_at or (states and self.state not in states[0])
        return [] if hidden else [self._answer()]

    def terminate_instances(self, InstanceIds: list[str]) -> None:
        """End the machine."""
        assert InstanceIds == ["i-1"]
        self.state, self.terminated_at = "terminated", self.now


def machine(ec2: Any) -> SmokeMachine:
    """Return the machine of a run, which EC2 has been asked for."""
    made = SmokeMachine(ec2, "smoke", ec2.clock, ec2.sleep)
    made.asked()
    return made


def test_a_machine_that_is_not_shown_yet_is_not_gone() -> None:
    """For minutes after the launch, silence means nothing. Once seen, EC2's word counts."""
    ec2 = FakeEc2(by_id_at=30, by_tag_at=60)
    it = machine(ec2)
    it.instance_id = "i-1"
    assert not it.is_gone()
    ec2.now = 31
    assert not it.is_gone()
    ec2.state = "terminated"
    assert it.is_gone()
    assert it.reason == "Client.InternalError: Client error on launch"


def test_a_machine_that_is_never_shown_is_gone_after_minutes() -> None:
    """A machine that EC2 does not show for minutes is taken as gone."""
    ec2 = FakeEc2(by_id_at=1e9, by_tag_at=1e9)
    it = machine(ec2)
    it.instance_id = "i-1"
    ec2.now = UNSEEN_S - 1
    assert not it.is_gone()
    ec2.now = UNSEEN_S + 1
    assert it.is_gone()


def test_a_machine_that_is_shown_late_is_terminated_nevertheless() -> None:
    """A run that fails right after its launch waits for its machine, and ends it."""
    for instance_id in ("i-1", None):
        ec2 = FakeEc2(by_id_at=20, by_tag_at=40)
        it = machine(ec2)
        it.instance_id = instance_id
        assert it.end() == ()
        assert ec2.terminated_at is not None
        assert ec2.terminated_at >= (20 if instance_id else 40)


def test_nothing_is_waited_for_without_a_launch() -> None:
    """A run that failed before its launch, or was refused a machine, ends at once."""
    for prepare in (lambda it: None, lambda it: (it.asked(), it.refused())):
        ec2 = FakeEc2(by_id_at=1e9, by_tag_at=1e9)
        it = SmokeMachine(ec2, "smoke", ec2.clock, ec2.sleep)  # type: ignore[arg-type]
        prepare(it)
        assert it.end() == ()
        assert ec2.now == 0.0
