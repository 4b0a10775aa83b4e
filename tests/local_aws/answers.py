"""The answers of a local AWS must have the shapes that botocore's models publish."""

from __future__ import annotations

from typing import Any

EXPLAINED = {
    f"ec2:CreateVpc .vpc.{name} is not in the model": "the emulator's own; every client skips it"
    for name in ("defaultNetworkAclId", "defaultSecurityGroupId", "mainRouteTableId")
} | {
    "cloudformation:DescribeChangeSet .ChangeSetType is not in the model": (
        "the emulator's own; every client skips it"
    )
}
"""Why a difference is right, by its beginning."""


def unlike_aws(answers: dict[str, Any]) -> dict[str, int]:
    """Return the unexplained differences of a local AWS's answers, each with its number.

    :param answers: what `local_aws status` says about them.
    """
    assert answers["checked"], "no answer was compared: is LOCAL_AWS_CHECK_ANSWERS set?"
    found: dict[str, int] = answers["problems"]
    return {
        place: number
        for place, number in found.items()
        if not any(place.startswith(beginning) for beginning in EXPLAINED)
    }
