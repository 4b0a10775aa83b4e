"""A fake EC2 that validates requests and can refuse, hide, lose or end machines.

It checks every request against botocore's service model. A known client token gets the same answer,
and a token with other parameters is refused. New machines can stay invisible for a while
(`hidden`).
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import botocore.session
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

_MODEL = botocore.session.get_session().get_service_model("ec2")
_VALIDATOR = ParamValidator()
ZONES = {"subnet-a": "eu-west-1a", "subnet-b": "eu-west-1b"}


@dataclass
class FakeMachine:
    """One instance."""

    instance_id: str
    instance_type: str
    subnet_id: str
    market: str
    tags: dict[str, str]
    launched_at: datetime
    state: str = "running"
    reason_code: str = ""
    reason: str = ""
    hidden: bool = False
    console: str = ""
    console_after: int = 0
    nitro: bool = True

    @property
    def alive(self) -> bool:
        """Whether the machine is pending or running."""
        return self.state in ("pending", "running")

    def describe(self) -> dict[str, Any]:
        """Return the instance as DescribeInstances does."""
        result: dict[str, Any] = {
            "InstanceId": self.instance_id,
            "InstanceType": self.instance_type,
            "State": {"Name": self.state},
            "SubnetId": self.subnet_id,
            "Placement": {"AvailabilityZone": ZONES[self.subnet_id]},
            "LaunchTime": self.launched_at,
            "StateTransitionReason": self.reason,
            "Tags": [{"Key": key, "Value": value} for key, value in self.tags.items()],
        }
        if self.reason_code:
            result["StateReason"] = {"Code": self.reason_code, "Message": self.reason_code}
        if self.market == "spot":
            result["InstanceLifecycle"] = "spot"
        return result


@dataclass
class FakeEc2:
    """The EC2 client.

    :param now: the clock

    :param refuse: called with (type, zone, market); an error code refuses the pool

    :param hide_new: whether new machines are invisible to DescribeInstances

    :param unfound: how often TerminateInstances does not find a hidden machine

    :param used_token: how CreateFleet refuses a token whose machine has ended: `error` or `list`.
    Empty: it gives its earlier answer. AWS does not document which it does.

    :param lose_answers: whether CreateFleet launches but its answer is lost

    :param during: called once when CreateFleet was `sent` (before it takes effect) or has `made`
    its machine (before it answers)
    """

    meta = SimpleNamespace(region_name="eu-west-1", endpoint_url="http://127.0.0.1:4566")
    now: Callable[[], datetime]
    refuse: Callable[[str, str, str], str | None] = lambda *_: None
    machines: dict[str, FakeMachine] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    hide_new: bool = False
    unfound: int = 0
    used_token: str = ""
    lose_answers: bool = False
    template_gone: bool = False
    image_gone: bool = False
    plain: tuple[str, ...] = ()
    during: dict[str, Callable[[], Any]] = field(default_factory=dict)
    _answers: dict[str, tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=dict)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def create_fleet(self, **request: Any) -> dict[str, Any]:
        """Launch one machine, or list the refusals."""
        self._check("CreateFleet", request)
        self._happen("sent")
        token = request["ClientToken"]
        assert request["Type"] == "instant"
        assert request["TargetCapacitySpecification"]["TotalTargetCapacity"] == 1
        if token in self._answers:
            before, answer = self._answers[token]
            if before != request:
                raise error(
                    "IdempotentParameterMismatch",
                    "the token was used with other parameters",
                    "CreateFleet",
                )
            return self._answer_again(answer)
        answer = self._launch(request)
        self._answers[token] = (request, answer)
        self._happen("made")
        if self.lose_answers:
            raise ConnectionError("the answer was lost")
        return answer

    def _answer_again(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Return the earlier answer of a token, or refuse it after the end of its machine."""
        groups = answer["Instances"]
        has_ended = groups and not any(self.machines[g["InstanceIds"][0]].alive for g in groups)
        if not has_ended or not self.used_token:
            return answer
        code = "IdempotentInstanceTerminated"
        if self.used_token == "error":
            raise error(code, "the resource is already deleted", "CreateFleet")
        where = groups[0]["LaunchTemplateAndOverrides"]
        refusal = {"LaunchTemplateAndOverrides": where, "ErrorCode": code, "ErrorMessage": code}
        return {**answer, "Instances": [], "Errors": [refusal]}

    def _happen(self, moment: str) -> None:
        if (happening := self.during.pop(moment, None)) is not None:
            happening()

    def _launch(self, request: dict[str, Any]) -> dict[str, Any]:
        market = request["TargetCapacitySpecification"]["DefaultTargetCapacityType"]
        tags = {
            tag["Key"]: tag["Value"]
            for spec in request["TagSpecifications"]
            if spec["ResourceType"] == "instance"
            for tag in spec["Tags"]
        }
        needed = {"nightshift:environment", "nightshift:deadline", "nightshift:attempt"}
        assert needed <= set(tags), "the launcher's policy refuses"
        refusals = []
        for override in request["LaunchTemplateConfigs"][0]["Overrides"]:
            zone = ZONES[override["SubnetId"]]
            pool = {"LaunchTemplateAndOverrides": {"Overrides": override}, "Lifecycle": market}
            if code := self.refuse(override["InstanceType"], zone, market):
                refusals.append({**pool, "ErrorCode": code, "ErrorMessage": f"{code} in {zone}"})
                continue
            made = FakeMachine(
                f"i-{next(self._numbers):017x}",
                override["InstanceType"],
                override["SubnetId"],
                market,
                tags,
                self.now(),
                hidden=self.hide_new,
            )
            self.machines[made.instance_id] = made
            return {
                "FleetId": "fleet-1",
                "Errors": refusals,
                "Instances": [
                    {
                        **pool,
                        "InstanceIds": [made.instance_id],
                        "InstanceType": made.instance_type,
                    }
                ],
            }
        return {"FleetId": "fleet-1", "Errors": refusals, "Instances": []}

    def terminate_instances(self, **request: Any) -> dict[str, Any]:
        """End machines."""
        self._check("TerminateInstances", request)
        for instance_id in request["InstanceIds"]:
            if instance_id not in self.machines:
                raise error(
                    "InvalidInstanceID.NotFound",
                    f"{instance_id} does not exist",
                    "TerminateInstances",
                )
            if self.machines[instance_id].hidden and self.unfound:
                self.unfound -= 1
                raise error(
                    "InvalidInstanceID.NotFound",
                    f"{instance_id} does not exist",
                    "TerminateInstances",
                )
            self.end(instance_id, "Client.UserInitiatedShutdown")
        return {"TerminatingInstances": []}

    def describe_instances(self, **request: Any) -> dict[str, Any]:
        """List machines by ids, which must exist, and by filters, within EC2's limits."""
        self._check("DescribeInstances", request)
        shown = {name: machine for name, machine in self.machines.items() if not machine.hidden}
        ids, filters = request.get("InstanceIds", ()), request.get("Filters", ())
        if missing := [name for name in ids if name not in shown]:
            raise error(
                "InvalidInstanceID.NotFound", f"{missing[0]} does not exist", "DescribeInstances"
            )
        if len(ids) > 1000 or sum(len(one["Values"]) for one in filters) > 200:
            raise error(
                "FilterLimitExceeded",
                "The maximum number of filter values specified on a single call is 200",
                "DescribeInstances",
            )
        found = [
            machine
            for name, machine in shown.items()
            if (not ids or name in ids) and all(_matches(machine, one) for one in filters)
        ]
        return {"Reservations": [{"Instances": [machine.describe()]} for machine in found]}

    def describe_instance_type_offerings(self, **request: Any) -> dict[str, Any]:
        """Offer every type in every zone."""
        self._check("DescribeInstanceTypeOfferings", request)
        names = request["Filters"][0]["Values"]
        return {
            "InstanceTypeOfferings": [
                {"InstanceType": name, "Location": zone}
                for name in names
                for zone in ZONES.values()
            ]
        }

    def describe_instance_types(self, **request: Any) -> dict[str, Any]:
        """Describe types, of which those in `plain` do not encrypt traffic between machines."""
        self._check("DescribeInstanceTypes", request)
        return {
            "InstanceTypes": [
                {
                    "InstanceType": name,
                    "NetworkInfo": {"EncryptionInTransitSupported": name not in self.plain},
                }
                for name in request["InstanceTypes"]
            ]
        }

    def describe_launch_template_versions(self, **request: Any) -> dict[str, Any]:
        """Return the template's data, unless the template is gone."""
        self._check("DescribeLaunchTemplateVersions", request)
        if self.template_gone:
            raise error(
                "InvalidLaunchTemplateId.NotFound",
                "it does not exist",
                "DescribeLaunchTemplateVersions",
            )
        volume = {"VolumeType": "gp3", "VolumeSize": 100, "Encrypted": True}
        data = {
            "ImageId": "ami-0123456789abcdef0",
            "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": volume}],
        }
        return {"LaunchTemplateVersions": [{"LaunchTemplateData": data}]}

    def describe_images(self, **request: Any) -> dict[str, Any]:
        """Return the image, unless it is gone."""
        self._check("DescribeImages", request)
        return {
            "Images": []
            if self.image_gone
            else [{"ImageId": request["ImageIds"][0], "State": "available"}]
        }

    def describe_spot_price_history(self, **request: Any) -> dict[str, Any]:
        """Return one price."""
        self._check("DescribeSpotPriceHistory", request)
        return {"SpotPriceHistory": [{"SpotPrice": "0.036"}]}

    def get_console_output(self, **request: Any) -> dict[str, Any]:
        """Return what a machine said on its console, once EC2 has it, as botocore decodes it."""
        self._check("GetConsoleOutput", request)
        machine = self.machines[request["InstanceId"]]
        if request.get("Latest") and not machine.nitro:
            raise error("UnsupportedOperation", "no latest console", "GetConsoleOutput")
        if machine.console_after:
            machine.console_after -= 1
            return {"InstanceId": machine.instance_id}
        return {"InstanceId": machine.instance_id, "Output": machine.console}

    def get_paginator(self, name: str) -> "FakePaginator":
        """Return a paginator with one page."""
        return FakePaginator(getattr(self, name))

    def end(self, instance_id: str, reason_code: str) -> None:
        """End a machine with a reason; a terminated machine stays unchanged."""
        machine = self.machines[instance_id]
        if machine.state != "terminated":
            machine.state, machine.reason_code = "terminated", reason_code
            machine.reason = f"{reason_code} ({self.now():%Y-%m-%d %H:%M:%S} GMT)"

    @property
    def living(self) -> list[FakeMachine]:
        """The machines that are pending or running."""
        return [machine for machine in self.machines.values() if machine.alive]

    def _check(self, operation: str, request: dict[str, Any]) -> None:
        self.calls.append(operation)
        report = _VALIDATOR.validate(request, _MODEL.operation_model(operation).input_shape)
        assert not report.has_errors(), f"{operation}: {report.generate_report()}"


@dataclass
class FakePaginator:
    """Returns everything in one page."""

    operation: Callable[..., dict[str, Any]]

    def paginate(self, **request: Any) -> Iterator[dict[str, Any]]:
        """Call the operation once."""
        yield self.operation(**request)


def error(code: str, message: str, operation: str) -> ClientError:
    """Build an error as botocore raises it."""
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


def _matches(machine: FakeMachine, one: dict[str, Any]) -> bool:
    name, values = one["Name"], one["Values"]
    if name.startswith("tag:"):
        return machine.tags.get(name.removeprefix("tag:")) in values
    if name == "instance-id":
        return machine.instance_id in values
    if name == "instance-state-name":
        return machine.state in values
    raise AssertionError(f"unknown filter {name}")


@dataclass
class FakeQuotas:
    """Service Quotas with the same number of vCPUs for each quota.

    :param vcpus: None refuses access
    """

    vcpus: float | None = 1000.0

    def get_service_quota(self, **request: Any) -> dict[str, Any]:
        """Return one quota."""
        assert set(request) == {"ServiceCode", "QuotaCode"}
        assert request["ServiceCode"] == "ec2"
        assert request["QuotaCode"].startswith("L-")
        if self.vcpus is None:
            raise error("AccessDeniedException", "no", "GetServiceQuota")
        return {"Quota": {"Value": self.vcpus}}
