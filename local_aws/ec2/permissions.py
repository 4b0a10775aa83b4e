"""EC2's authorization: each resource of a call is authorized with its own condition keys.

Source: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
"""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from local_aws.ec2.store import Instance
from local_aws.emulator.wire import Ec2ApiError
from local_aws.iam import denials
from local_aws.iam.authorization import Authorizer, Headers

if TYPE_CHECKING:
    from local_aws.ec2.launch_spec import LaunchSpec

CALLER: contextvars.ContextVar[Headers] = contextvars.ContextVar("caller")
"""The headers of the request that is being served."""
Keys = dict[str, Any]


def tag_keys(tags: Mapping[str, str]) -> Keys:
    """Return the condition keys of the tags in a request."""
    return {f"aws:RequestTag/{key}": value for key, value in tags.items()} | (
        {"aws:TagKeys": list(tags)} if tags else {}
    )


def resource_keys(tags: Mapping[str, str]) -> Keys:
    """Return the condition keys of the tags of a resource."""
    return {
        f"{prefix}:ResourceTag/{key}": value
        for key, value in tags.items()
        for prefix in ("aws", "ec2")
    }


class Permissions:
    """Checks the permissions of the caller whose request is being served."""

    def __init__(self, authorizer: Authorizer, account_id: str, region: str) -> None:
        self._authorizer = authorizer
        self._account_id = account_id
        self._region = region

    def arn(self, kind: str, name: str) -> str:
        """Return the ARN of a resource."""
        owner = "" if kind == "image" else self._account_id
        return f"arn:aws:ec2:{self._region}:{owner}:{kind}/{name}"

    def require(self, action: str, arn: str, keys: Keys) -> None:
        """Authorize one action on one resource.

        :raises Ec2ApiError: UnauthorizedOperation with EC2's message.
        """
        shared = {"ec2:Region": self._region, **keys}
        denial = self._authorizer.check(CALLER.get(), action, arn, shared)
        if denial:
            text = (
                f"You are not authorized to perform this operation. User: {denial.principal_arn} "
                f"is not authorized to perform: {action} on resource: {arn} {denial.reason(action)}"
            )
            if arn != "*":  # calls that only read have no resource, and no encoded message
                keys = {"aws:Region": self._region, "aws:Resource": arn.split(":", 5)[5], **shared}
                encoded = denials.encode(denial.principal_arn, action, arn, keys, denial.explicit)
                text += f". Encoded authorization failure message: {encoded}"
            raise Ec2ApiError("UnauthorizedOperation", text, 403)

    def require_read(self, action: str) -> None:
        """Authorize a Describe action, which has no resource."""
        self.require(f"ec2:{action}", "*", {})

    def require_on(self, action: str, instances: list[Instance], keys: Keys | None = None) -> None:
        """Authorize an action on each of the given instances."""
        for instance in instances:
            self.require(
                f"ec2:{action}",
                self.arn("instance", instance.id),
                {**instance_keys(instance, self._account_id, self._region), **(keys or {})},
            )

    def require_launch(self, spec: LaunchSpec) -> None:
        """Authorize every resource that a launch uses or creates."""
        common = self._launch_keys(spec)
        self.require(
            "ec2:RunInstances", self.arn("instance", "*"), {**common, **_instance_keys(spec)}
        )
        for kind, name, keys in self._launch_resources(spec):
            self.require("ec2:RunInstances", self.arn(kind, name), {**common, **keys})
        for kind in spec.tagged_kinds():
            keys = {**common, **tag_keys(spec.tags(kind)), "ec2:CreateAction": "RunInstances"}
            self.require("ec2:CreateTags", self.arn(kind, "*"), keys)
        if spec.profile:
            self.require(
                "iam:PassRole",
                spec.profile["Roles"][0]["Arn"],
                {"iam:PassedToService": "ec2.amazonaws.com"},
            )

    def _launch_keys(self, spec: LaunchSpec) -> Keys:
        """Return the condition keys that every resource of a launch has."""
        if not spec.template_id:
            return {"ec2:IsLaunchTemplateResource": "false"}
        return {"ec2:LaunchTemplate": self.arn("launch-template", spec.template_id)}

    def _launch_resources(self, spec: LaunchSpec) -> list[tuple[str, str, Keys]]:
        """List the resources of a launch except the instance, as kind, name and condition keys.

        The keys say which resources the launch template specified.
        """
        vpc = self.arn("vpc", spec.subnet["VpcId"])
        subnet = self.arn("subnet", spec.subnet["SubnetId"])
        image = {
            "ec2:ImageType": "machine",
            "ec2:Owner": spec.image["OwnerId"],
            "ec2:Public": str(spec.image.get("Public", False)).lower(),
            "ec2:ImageID": spec.image["ImageId"],
            **resource_keys(_tags_of(spec.image)),
        }
        network = {
            "ec2:Vpc": vpc,
            "ec2:Subnet": subnet,
            "ec2:AvailabilityZone": spec.zone,
            "ec2:AssociatePublicIpAddress": str(spec.public_address).lower(),
        }
        resources: list[tuple[str, str, Keys]] = [
            ("image", spec.image["ImageId"], image | spec.from_template("ImageId")),
            (
                "subnet",
                spec.subnet["SubnetId"],
                {
                    "ec2:SubnetID": spec.subnet["SubnetId"],
                    "ec2:Vpc": vpc,
                    **resource_keys(_tags_of(spec.subnet)),
                }
                | spec.from_template("SubnetId"),
            ),
            (
                "network-interface",
                "*",
                network
                | tag_keys(spec.tags("network-interface"))
                | spec.from_template("NetworkInterfaces"),
            ),
        ]
        resources += [
            (
                "volume",
                "*",
                volume_keys(v)
                | {"ec2:AvailabilityZone": spec.zone}
                | tag_keys(spec.tags("volume"))
                | spec.from_template("BlockDeviceMappings"),
            )
            for v in spec.volumes
        ]
        resources += [
            (
                "security-group",
                g["GroupId"],
                {"ec2:SecurityGroupID": g["GroupId"], "ec2:Vpc": vpc, **resource_keys(_tags_of(g))}
                | spec.from_template("SecurityGroupIds", "NetworkInterfaces"),
            )
            for g in spec.groups
        ]
        if spec.template_id:
            resources.append(
                (
                    "launch-template",
                    spec.template_id,
                    {"ec2:IsLaunchTemplateResource": "true", **resource_keys(spec.template_tags)},
                )
            )
        if group := spec.placement.get("GroupName"):
            resources.append(("placement-group", group, {"ec2:PlacementGroupName": group}))
        if spec.placement.get("HostId") or spec.placement.get("Tenancy") == "host":
            resources.append(("dedicated-host", spec.placement.get("HostId") or "*", {}))
        if spec.key_name:
            resources.append(
                (
                    "key-pair",
                    spec.key_name,
                    {"ec2:KeyPairName": spec.key_name} | spec.from_template("KeyName"),
                )
            )
        if spec.market == "spot" and spec.tags("spot-instances-request"):
            resources.append(
                ("spot-instances-request", "*", tag_keys(spec.tags("spot-instances-request")))
            )
        return resources


def _instance_keys(spec: LaunchSpec) -> Keys:
    """Return the condition keys of the instance that a launch makes.

    Decoded messages of AWS show these keys. With a launch template the instance counts as a
    resource of the template: tests/infra_bootstrap/stacks/authorization_contexts.json.
    """
    options = spec.metadata_options
    keys: Keys = {
        "ec2:InstanceID": "*",
        "ec2:InstanceType": spec.instance_type,
        "ec2:InstanceMarketType": spec.market,
        "ec2:AvailabilityZone": spec.zone,
        "ec2:AvailabilityZoneId": spec.subnet.get("AvailabilityZoneId", ""),
        "ec2:EbsOptimized": str(spec.ebs_optimized).lower(),
        "ec2:InstanceBandwidthWeighting": "default",
        "ec2:InstanceMetadataTags": options["InstanceMetadataTags"],
        "ec2:MetadataHttpTokens": options["HttpTokens"],
        "ec2:MetadataHttpEndpoint": options["HttpEndpoint"],
        "ec2:MetadataHttpPutResponseHopLimit": str(options["HttpPutResponseHopLimit"]),
        "ec2:RootDeviceType": "ebs",
        "ec2:Tenancy": spec.placement.get("Tenancy") or "default",
        "ec2:IsLaunchTemplateResource": str(bool(spec.template_id)).lower(),
        **tag_keys(spec.tags("instance")),
    }
    return keys | ({"ec2:InstanceProfile": spec.profile["Arn"]} if spec.profile else {})


def _tags_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Return a described resource's tags."""
    return {tag["Key"]: tag["Value"] for tag in record.get("Tags") or []}


def volume_keys(volume: Mapping[str, Any]) -> Keys:
    """Return the condition keys of a volume that a launch creates."""
    keys: Keys = {
        "ec2:Encrypted": str(volume["Encrypted"]).lower(),
        "ec2:VolumeSize": str(volume["Size"]),
        "ec2:VolumeType": volume["VolumeType"],
    }
    if volume.get("KmsKeyId"):
        keys["ec2:KmsKeyId"] = volume["KmsKeyId"]
    return keys


def instance_keys(instance: Instance, _account_id: str, _region: str) -> Keys:
    """Return the condition keys of an existing instance."""
    record = instance.record
    keys = resource_keys(instance.tags) | {
        "ec2:InstanceType": record["InstanceType"],
        "ec2:AvailabilityZone": record["Placement"]["AvailabilityZone"],
        "ec2:InstanceMarketType": record.get("InstanceLifecycle", "on-demand"),
        "ec2:MetadataHttpTokens": record["MetadataOptions"]["HttpTokens"],
        "ec2:InstanceID": instance.id,
        "ec2:RootDeviceType": "ebs",
        "ec2:Tenancy": "default",
    }
    if "IamInstanceProfile" in record:
        keys["ec2:InstanceProfile"] = record["IamInstanceProfile"]["Arn"]
    return keys
