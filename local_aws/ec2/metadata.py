"""The contents of an instance's metadata service, as a table of paths."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from local_aws.ec2.store import Instance
from local_aws.iam.sessions import Renewing, RoleMissingError, TrustError, as_document
from local_aws.machines.imds import Leaf

CREDENTIALS = "meta-data/iam/security-credentials/"


def tree(
    instance: Instance,
    address: str,
    account_id: str,
    region: str,
    credentials: Renewing | None,
) -> Callable[[], Mapping[str, Leaf]]:
    """Return a function that returns an instance's current metadata.

    :param address: the address on which the instance's processes can listen. It stands for the
        private address.
    """

    def show() -> Mapping[str, Leaf]:
        return {
            **_identity(instance, address, account_id, region),
            **_network(instance, address),
            **_tags(instance),
            **_notices(instance),
            **_user_data(instance),
            **(_role(instance, credentials) if credentials else {}),
        }

    return show


def _identity(instance: Instance, address: str, account_id: str, region: str) -> dict[str, Leaf]:
    """Return the entries about the instance itself and its place."""
    record, zone = instance.record, instance.record["Placement"]["AvailabilityZone"]
    document = {
        "accountId": account_id,
        "architecture": record["Architecture"],
        "availabilityZone": zone,
        "imageId": record["ImageId"],
        "instanceId": record["InstanceId"],
        "instanceType": record["InstanceType"],
        "kernelId": None,
        "pendingTime": record["LaunchTime"].strftime("%Y-%m-%dT%H:%M:%SZ"),
        "privateIp": address,
        "ramdiskId": None,
        "region": region,
        "version": "2017-09-30",
    }
    return {
        "meta-data/instance-id": record["InstanceId"],
        "meta-data/instance-type": record["InstanceType"],
        "meta-data/instance-life-cycle": record.get("InstanceLifecycle", "on-demand"),
        "meta-data/instance-action": "none",
        "meta-data/ami-id": record["ImageId"],
        "meta-data/ami-launch-index": str(record["AmiLaunchIndex"]),
        "meta-data/reservation-id": instance.reservation_id,
        "meta-data/placement/availability-zone": zone,
        "meta-data/placement/availability-zone-id": zone_id(zone),
        "meta-data/placement/region": region,
        "meta-data/services/domain": "amazonaws.com",
        "meta-data/services/partition": "aws",
        "dynamic/instance-identity/document": json.dumps(document, indent=2),
    }


def zone_id(zone: str) -> str:
    """Return the id of an availability zone.

    >>> zone_id("eu-west-1b")
    'euw1-az2'
    """
    continent, direction, rest = zone.split("-")
    return f"{continent}{direction[0]}{rest[0]}-az{ord(rest[-1]) - 96}"


def _network(instance: Instance, address: str) -> dict[str, Leaf]:
    """Return the entries about the instance's network interface."""
    record = instance.record
    return {
        "meta-data/local-ipv4": address,
        "meta-data/local-hostname": record.get("PrivateDnsName", ""),
        "meta-data/hostname": record.get("PrivateDnsName", ""),
        "meta-data/mac": instance.interfaces[0]["MacAddress"] if instance.interfaces else "",
        "meta-data/security-groups": "\n".join(
            group["GroupName"] for group in record["SecurityGroups"]
        ),
    }


def _tags(instance: Instance) -> dict[str, Leaf]:
    """Return the entries of the tags, if the launch enabled them.

    Tags that begin with `aws:` are shown, too.
    """
    if instance.record["MetadataOptions"].get("InstanceMetadataTags") != "enabled":
        return {}
    return {f"meta-data/tags/instance/{key}": value for key, value in instance.tags.items()}


def _notices(instance: Instance) -> dict[str, Leaf]:
    """Return the entries of an interruption notice and a rebalance recommendation.

    Source:
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
    """
    shown: dict[str, Leaf] = {}
    if instance.notice:
        shown["meta-data/spot/instance-action"] = json.dumps(instance.notice)
        shown["meta-data/spot/termination-time"] = instance.notice["time"]
    if instance.rebalance_at:
        shown["meta-data/events/recommendations/rebalance"] = json.dumps(
            {"noticeTime": instance.rebalance_at}
        )
    return shown


def _user_data(instance: Instance) -> dict[str, Leaf]:
    """Return the entry of the user data, as text."""
    return (
        {"user-data": base64.b64decode(instance.user_data).decode(errors="replace")}
        if instance.user_data
        else {}
    )


def _role(instance: Instance, credentials: Renewing) -> dict[str, Leaf]:
    """Return the entries of the role's credentials, which are renewed in time."""
    profile: dict[str, Any] = instance.record.get("IamInstanceProfile", {})
    info = {
        "Code": "Success",
        "InstanceProfileArn": profile.get("Arn"),
        "InstanceProfileId": profile.get("Id"),
    }
    return {
        "meta-data/iam/info": json.dumps(info),
        CREDENTIALS + credentials.role_name: lambda: _credentials(credentials),
    }


def _credentials(credentials: Renewing) -> str:
    """Return the credentials, or the reason why there are none, in IMDS's form."""
    try:
        return json.dumps(as_document(credentials.get()), indent=2)
    except (TrustError, RoleMissingError) as error:
        return json.dumps({"Code": "AssumeRoleUnauthorizedAccess", "Message": str(error)})
