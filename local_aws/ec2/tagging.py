"""CreateTags and DeleteTags for instances, disks and interfaces.

The emulator sets the tags of networks; this module only authorizes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from local_aws.ec2.permissions import Permissions, tag_keys
from local_aws.ec2.store import Instance, Store
from local_aws.emulator.wire import DRY_RUN, Ec2ApiError

Request = dict[str, Any]
Response = dict[str, Any]
OURS = ("i-", "vol-", "eni-")
KINDS = {
    "vpc": "vpc",
    "subnet": "subnet",
    "sg": "security-group",
    "rtb": "route-table",
    "vpce": "vpc-endpoint",
    "lt": "launch-template",
    "fl": "vpc-flow-log",
    "ami": "image",
    "igw": "internet-gateway",
    "acl": "network-acl",
    "sgr": "security-group-rule",
}


class Tagging:
    """Changes tags if the caller may."""

    def __init__(self, store: Store, permissions: Permissions) -> None:
        self.store = store
        self._permissions = permissions

    def create_tags(self, request: Request, dry_run: bool) -> Response:
        """Set tags of instances, disks and interfaces."""
        wanted = {tag["Key"]: tag.get("Value", "") for tag in request["Tags"]}
        reserved = [key for key in wanted if key.lower().startswith("aws:")]
        if reserved:
            raise Ec2ApiError(
                "InvalidParameterValue",
                f"Value ( {reserved[0]} ) for parameter key is invalid. Tag keys starting with "
                "'aws:' are reserved "
                "for internal use",
            )
        return self._retag("CreateTags", request, dry_run, lambda tags: {**tags, **wanted}, wanted)

    def delete_tags(self, request: Request, dry_run: bool) -> Response:
        """Remove tags of instances, disks and interfaces."""
        gone = {tag["Key"]: tag.get("Value", "") for tag in request.get("Tags", [])}
        return self._retag(
            "DeleteTags",
            request,
            dry_run,
            lambda tags: {k: v for k, v in tags.items() if k not in gone},
            gone,
        )

    def _retag(
        self,
        action: str,
        request: Request,
        dry_run: bool,
        change: Callable[[dict[str, str]], dict[str, str]],
        named: dict[str, str],
    ) -> Response:
        """Change the tags of resources if the caller may."""
        holders = self._holders(request["Resources"])
        for resource_id, (instance, _) in holders.items():
            kind = {"i": "instance", "vol": "volume", "eni": "network-interface"}[
                resource_id.partition("-")[0]
            ]
            if kind == "instance":
                self._permissions.require_on(action, [instance], tag_keys(named))
            else:
                self._permissions.require(
                    f"ec2:{action}", self._permissions.arn(kind, resource_id), tag_keys(named)
                )
        if dry_run:
            raise DRY_RUN
        for _, record in holders.values():
            fresh = change({t["Key"]: t["Value"] for t in record.get("Tags", [])})
            record["Tags"] = record["TagSet"] = [{"Key": k, "Value": v} for k, v in fresh.items()]
        self.store.save()
        return {}

    def _holders(self, resources: Sequence[str]) -> dict[str, tuple[Instance, Response]]:
        """Return the instance and the record that hold each resource's tags.

        :raises Ec2ApiError: NotFound, naming the first resource that does not exist.
        """
        found: dict[str, tuple[Instance, Response]] = {}
        at = time.time()
        for instance in self.store.known():
            if instance.found_by_id_at > at:
                continue
            found[instance.id] = (instance, instance.record)
            found |= {v["VolumeId"]: (instance, v) for v in instance.volumes} | {
                n["NetworkInterfaceId"]: (instance, n) for n in instance.interfaces
            }
        missing = [r for r in resources if r not in found]
        if missing:
            codes = {
                "i": "InvalidInstanceID.NotFound",
                "vol": "InvalidVolume.NotFound",
                "eni": "InvalidNetworkInterfaceID.NotFound",
            }
            raise Ec2ApiError(
                codes.get(missing[0].partition("-")[0], "InvalidID"),
                f"The ID '{missing[0]}' does not exist",
            )
        return {r: found[r] for r in resources}

    def authorize_foreign(self, action: str, request: Request) -> None:
        """Authorize tags of the emulator's resources; the emulator then sets them."""
        named = {tag["Key"]: tag.get("Value", "") for tag in request.get("Tags", [])}
        for resource in request.get("Resources", []):
            self._permissions.require(
                f"ec2:{action}",
                self._permissions.arn(KINDS.get(resource.rpartition("-")[0], "*"), resource),
                tag_keys(named),
            )


def names_ours(flat: Mapping[str, str]) -> bool:
    """Say whether a tagging request names an instance, a disk or an interface."""
    return any(
        value.startswith(OURS) for name, value in flat.items() if name.startswith("ResourceId.")
    )
