"""Rows that launch machines: client tokens, lags, tags and the console."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

from tests.local_aws.conformance.account import (
    INSTANCE_TYPE,
    SLEEPS,
    TAG,
    Account,
    Seen,
    code_or,
    named,
)
from tests.local_aws.conftest import until

USED = "IdempotentInstanceTerminated"
TAGS = [{"ResourceType": "instance", "Tags": [TAG]}]


def launch(account: Account, **request: Any) -> str:
    """Launch one machine in a subnet of its own; return its id."""
    usual = {
        "ImageId": account.image(),
        "InstanceType": INSTANCE_TYPE,
        "MinCount": 1,
        "MaxCount": 1,
        "UserData": SLEEPS,
        "InstanceInitiatedShutdownBehavior": "terminate",
        "TagSpecifications": TAGS,
    }
    if "SubnetId" not in request:
        request["SubnetId"] = account.subnet()
    answer = account.client("ec2").run_instances(**{**usual, **request})
    made = str(answer["Instances"][0]["InstanceId"])
    account.end_later(made)
    return made


def fleet(account: Account, token: str, template: str, subnet: str) -> dict[str, Any]:
    """Return the request for an instant fleet of one machine, as the launcher makes it."""
    version = {"LaunchTemplateId": template, "Version": "1"}
    return {
        "Type": "instant",
        "ClientToken": token,
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": 1,
            "DefaultTargetCapacityType": "on-demand",
        },
        "LaunchTemplateConfigs": [
            {"LaunchTemplateSpecification": version, "Overrides": [{"SubnetId": subnet}]}
        ],
        "TagSpecifications": TAGS,
    }


def ids_of(account: Account, answer: dict[str, Any]) -> list[str]:
    """Return the machines of a fleet's answer, and register their ends."""
    found = [str(i) for group in answer.get("Instances", []) for i in group["InstanceIds"]]
    for instance_id in found:
        account.end_later(instance_id)
    return found


def started_fleet(account: Account) -> tuple[dict[str, Any], list[str]]:
    """Launch a fleet; return its request and its machines."""
    template = account.template(UserData=base64.b64encode(SLEEPS.encode()).decode())
    request = fleet(account, named("token")[-64:], template, account.subnet())
    answer = account.client("ec2").create_fleet(**request)
    return request, ids_of(account, answer)


def fleet_token(account: Account) -> Seen:
    """The same request with the same token gives the same machine; another request is refused."""
    ec2 = account.client("ec2")
    request, first = started_fleet(account)
    again = ids_of(account, ec2.create_fleet(**request))
    other = {**request, "SpotOptions": {"AllocationStrategy": "price-capacity-optimized"}}
    code = code_or(ec2.create_fleet, **other)
    which = "the same machine" if again == first else f"{again} after {first}"
    told = f"{which}; {code or 'no error'} for another request"
    return Seen(bool(first) and again == first and code == "IdempotentParameterMismatch", told)


def fleet_token_after_the_end(account: Account) -> Seen:
    """After the end of its machine, the token launches nothing new. What it answers is told."""
    ec2 = account.client("ec2")
    request, first = started_fleet(account)
    if not first:
        return Seen(False, "the fleet launched nothing")
    account.await_end(first[0])
    try:
        answer = ec2.create_fleet(**request)
    except ec2.exceptions.ClientError as error:
        return Seen(True, f"the call fails: {error.response['Error']['Code']}")
    again = ids_of(account, answer)
    codes = sorted({one["ErrorCode"] for one in answer.get("Errors", [])})
    told = "the same answer" if again == first else f"machines {again}, errors {codes}"
    return Seen(set(again) <= set(first), told)


def run_token_after_the_end(account: Account) -> Seen:
    """RunInstances refuses a token whose machine has ended."""
    token, subnet = named("token")[-64:], account.subnet()
    asked = {"ClientToken": token, "SubnetId": subnet}
    machine = launch(account, **asked)
    if launch(account, **asked) != machine:
        return Seen(False, "the token launched a second machine")
    account.await_end(machine)
    code = code_or(launch, account=account, **asked)
    return Seen(code == USED, code or "the call succeeded")


def lag_of_describe(account: Account) -> Seen:
    """A new machine is seen within a minute, by its id and by a tag. The times are told."""
    ec2, mark = account.client("ec2"), named("mark")
    tags = [{"ResourceType": "instance", "Tags": [TAG, {"Key": "mark", "Value": mark}]}]
    subnet = account.subnet()
    machine, began = launch(account, SubnetId=subnet, TagSpecifications=tags), time.monotonic()

    def by_id() -> bool:
        return code_or(ec2.describe_instances, InstanceIds=[machine]) == ""

    def by_tag() -> bool:
        wanted = [{"Name": "tag:mark", "Values": [mark]}]
        return bool(ec2.describe_instances(Filters=wanted)["Reservations"])

    times = _first_times({"by id": by_id, "by tag": by_tag}, began, 60)
    told = ", ".join(f"{name} after {seconds:.1f} s" for name, seconds in times.items())
    return Seen(len(times) == 2, told)


def _first_times(
    looks: dict[str, Callable[[], bool]], began: float, within_s: float
) -> dict[str, float]:
    """Return after how many seconds each look has found something for the first time."""
    found: dict[str, float] = {}
    while len(found) < len(looks) and time.monotonic() - began < within_s:
        for name, look in looks.items():
            if name not in found and look():
                found[name] = time.monotonic() - began
        time.sleep(0.05 if within_s <= 60 else 1.0)
    return found


def console(account: Account) -> Seen:
    """The console shows what user data printed, in life and within 20 minutes after the end.

    The times are told. After the end, the launcher reads it in both forms.
    """
    ec2, began = account.client("ec2"), time.monotonic()
    machine, said = launch(account), "the conformance table runs here"

    def shows(**options: bool) -> bool:
        answer = account.patiently(
            lambda: ec2.get_console_output(InstanceId=machine, **options)  # type: ignore[arg-type]
        )
        return said in str(answer.get("Output", ""))

    until(lambda: shows(Latest=True), "the text on the console", 600)
    alive_s = time.monotonic() - began
    account.await_end(machine)
    ended = time.monotonic()
    looks = {"with Latest": lambda: shows(Latest=True), "without": shows}
    times = _first_times(looks, ended, 1200)
    told = ", ".join(
        f"{name} {f'after {times[name]:.0f} s' if name in times else 'never'}" for name in looks
    )
    return Seen(bool(times), f"alive after {alive_s:.0f} s; ended: {told}")


def tag_on_create(account: Account) -> Seen:
    """Tags at a launch need ec2:CreateTags; a condition on the creating action is enough."""
    asked = {
        "ImageId": account.image(),
        "InstanceType": INSTANCE_TYPE,
        "MinCount": 1,
        "MaxCount": 1,
        "SubnetId": account.subnet(),
        "TagSpecifications": TAGS,
        "DryRun": True,
    }
    run = {"Effect": "Allow", "Action": "ec2:RunInstances", "Resource": "*"}
    tag = {
        "Effect": "Allow",
        "Action": "ec2:CreateTags",
        "Resource": "*",
        "Condition": {"StringEquals": {"ec2:CreateAction": "RunInstances"}},
    }
    codes = []
    for statements, untagged in (([run], True), ([run], False), ([run, tag], False)):
        request = {k: v for k, v in asked.items() if not (untagged and k == "TagSpecifications")}
        wanted = (
            "UnauthorizedOperation"
            if (tag not in statements and not untagged)
            else "DryRunOperation"
        )
        with account.as_role(*statements) as client:
            codes.append(
                settled(
                    account,
                    lambda c=client, r=request: code_or(c("ec2").run_instances, **r),
                    wanted,
                )
            )  # type: ignore[misc]
    return Seen(
        codes == ["DryRunOperation", "UnauthorizedOperation", "DryRunOperation"], ", ".join(codes)
    )


def settled(account: Account, look: Callable[[], str], wanted: str) -> str:
    """Return the code that a call settles on: the wanted one, or what it still gets at the end.

    A new role's permissions take a while. Until then, calls are denied.
    """
    end = time.monotonic() + account.patience_s
    while (code := look()) != wanted and time.monotonic() < end:
        time.sleep(0.5)
    return code


def named_after_deletion(account: Account) -> Seen:
    """How long GetResources names a queue after its deletion is told; it may be any time."""
    sqs, tagging, mark = (
        account.client("sqs"),
        account.client("resourcegroupstaggingapi"),
        named("mark"),
    )
    url = sqs.create_queue(QueueName=named("queue"), tags={"mark": mark})["QueueUrl"]

    def is_named() -> bool:
        found = tagging.get_resources(TagFilters=[{"Key": "mark", "Values": [mark]}])
        return bool(found["ResourceTagMappingList"])

    until(is_named, "the queue is named", 120)
    sqs.delete_queue(QueueUrl=url)
    began = time.monotonic()
    while is_named() and time.monotonic() - began < 120:
        time.sleep(0.5)
    seconds = time.monotonic() - began
    return Seen(True, f"for {seconds:.0f} s" if seconds < 120 else "for more than 120 s")
