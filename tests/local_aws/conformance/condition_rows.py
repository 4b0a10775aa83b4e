"""Rows about the condition keys of a launch: dry runs of a role that may launch on one condition.

They show whether EC2 fills a key from the launch template, and whether an override is denied. A
decoded denial would show the same: https://docs.aws.amazon.com/service-authorization/latest/
reference/list_amazonec2.html lists the keys, and does not say where their values come from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.local_aws.conformance.account import INSTANCE_TYPE, Account, Seen, code_or
from tests.local_aws.conformance.launch_rows import settled

ALLOWED, DENIED = "DryRunOperation", "UnauthorizedOperation"
DISK = {"Encrypted": True, "VolumeSize": 100, "VolumeType": "gp3", "DeleteOnTermination": True}


def disk(**changed: Any) -> list[dict[str, Any]]:
    """Return a mapping of the root disk."""
    return [{"DeviceName": "/dev/sda1", "Ebs": {**DISK, **changed}}]


def conditional(
    kind: str, condition: dict[str, Any], override: dict[str, Any]
) -> Callable[[Account], Seen]:
    """Return a row: with a condition on one kind of resource, the template's launch is allowed and
    a launch with the override is denied.
    """

    def row(account: Account) -> Seen:
        template = account.template(
            BlockDeviceMappings=disk(),
            MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        )
        request = {
            "LaunchTemplate": {"LaunchTemplateId": template, "Version": "1"},
            "SubnetId": account.subnet(),
            "MinCount": 1,
            "MaxCount": 1,
            "DryRun": True,
        }
        rest = {
            "Effect": "Allow",
            "Action": "ec2:RunInstances",
            "NotResource": f"arn:aws:ec2:*:*:{kind}/*",
        }
        checked = {
            "Effect": "Allow",
            "Action": "ec2:RunInstances",
            "Resource": f"arn:aws:ec2:*:*:{kind}/*",
            "Condition": condition,
        }
        look = {"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"}
        with account.as_role(rest, checked, look) as client:
            run = client("ec2").run_instances
            usual = settled(account, lambda: code_or(run, **request), ALLOWED)
            other = code_or(run, **{**request, **override})
        return Seen((usual, other) == (ALLOWED, DENIED), f"template: {usual}, override: {other}")

    return row


def without_a_template(account: Account) -> Seen:
    """A launch without a template is denied to a role that must use one."""
    request = {
        "ImageId": account.image(),
        "InstanceType": INSTANCE_TYPE,
        "SubnetId": account.subnet(),
        "MinCount": 1,
        "MaxCount": 1,
        "DryRun": True,
    }
    template = {"LaunchTemplate": {"LaunchTemplateId": account.template(), "Version": "1"}}
    statement = {
        "Effect": "Allow",
        "Action": "ec2:RunInstances",
        "Resource": "*",
        "Condition": {"ArnLike": {"ec2:LaunchTemplate": "arn:aws:ec2:*:*:launch-template/*"}},
    }
    with account.as_role(statement) as client:
        run = client("ec2").run_instances
        by_template = {k: v for k, v in request.items() if k not in ("ImageId", "InstanceType")}
        usual = settled(account, lambda: code_or(run, **by_template, **template), ALLOWED)
        other = code_or(run, **request)
    return Seen((usual, other) == (ALLOWED, DENIED), f"template: {usual}, without: {other}")


TOKENS = conditional(
    "instance",
    {"StringEquals": {"ec2:MetadataHttpTokens": "required"}},
    {"MetadataOptions": {"HttpTokens": "optional"}},
)
HOPS = conditional(
    "instance",
    {"NumericEquals": {"ec2:MetadataHttpPutResponseHopLimit": "1"}},
    {"MetadataOptions": {"HttpPutResponseHopLimit": 2}},
)
TYPES = conditional(
    "instance",
    {"StringEquals": {"ec2:InstanceType": INSTANCE_TYPE}},
    {"InstanceType": "t3.small"},
)
ENCRYPTION = conditional(
    "volume",
    {"Bool": {"ec2:Encrypted": "true"}},
    {"BlockDeviceMappings": disk(Encrypted=False)},
)
SIZES = conditional(
    "volume",
    {"NumericEquals": {"ec2:VolumeSize": "100"}},
    {"BlockDeviceMappings": disk(VolumeSize=200)},
)
DISK_TYPES = conditional(
    "volume",
    {"StringEquals": {"ec2:VolumeType": "gp3"}},
    {"BlockDeviceMappings": disk(VolumeType="gp2")},
)
