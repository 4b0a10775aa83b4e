"""Resolves a launch request and its launch template into one specification.

Requests that EC2 refuses are refused.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from local_aws.ec2.catalog import CATALOG, is_offered
from local_aws.emulator.wire import Ec2ApiError

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import SubnetTypeDef
    from mypy_boto3_iam import IAMClient

USER_DATA_LIMIT = 16384
"""The largest user data in bytes before encoding:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html"""
METADATA_DEFAULTS = {
    "State": "applied",
    "HttpTokens": "optional",
    "HttpPutResponseHopLimit": 1,
    "HttpEndpoint": "enabled",
    "HttpProtocolIpv6": "disabled",
    "InstanceMetadataTags": "disabled",
}
TAGGABLE = ("instance", "volume", "network-interface", "spot-instances-request")


@dataclass(frozen=True)
class LaunchSpec:
    """Everything that one launch needs.

    :param template_keys: the members that the template set and the request did not override.
    """

    instance_type: str
    image: Mapping[str, Any]
    subnet: Mapping[str, Any]
    groups: Sequence[Mapping[str, Any]]
    volumes: Sequence[Mapping[str, Any]]
    profile: Mapping[str, Any] | None
    market: str
    user_data: str
    on_shutdown: str
    metadata_options: Mapping[str, Any]
    tag_specifications: Sequence[Mapping[str, Any]]
    template_id: str | None
    template_version: str | None
    template_tags: Mapping[str, str]
    template_keys: frozenset[str]
    key_name: str | None
    ebs_optimized: bool
    monitoring: bool
    public_address: bool
    placement: Mapping[str, Any]

    @property
    def zone(self) -> str:
        """The availability zone."""
        return str(self.subnet["AvailabilityZone"])

    def tags(self, kind: str) -> dict[str, str]:
        """Return the tags for one kind of resource."""
        return as_tags(self.tag_specifications, kind)

    def tagged_kinds(self) -> list[str]:
        """List the kinds of resource that get tags."""
        kinds = [kind for kind in TAGGABLE if self.tags(kind)]
        return [kind for kind in kinds if kind != "spot-instances-request" or self.market == "spot"]

    def from_template(self, *members: str) -> dict[str, str]:
        """Return the condition key that says whether the template specified a resource."""
        return {
            "ec2:IsLaunchTemplateResource": str(
                any(m in self.template_keys for m in members)
            ).lower()
        }


class Resolver:
    """Looks up the emulator's networks, templates and profiles to which a launch refers.

    :param network: a client of the emulator's EC2.
    :param iam: a client of the emulator's IAM.
    """

    def __init__(self, network: EC2Client, iam: IAMClient) -> None:
        self._network = network
        self._iam = iam

    def resolve(
        self, request: Mapping[str, Any], images: Mapping[str, Mapping[str, Any]]
    ) -> LaunchSpec:
        """Return the specification of a launch.

        :param request: RunInstances' parameters.
        :param images: the images that DescribeImages knows, by id.
        :raises Ec2ApiError: with EC2's code and message, for a parameter that EC2 refuses.
        """
        template = self._template(request.get("LaunchTemplate"))
        data = dict(template.get("LaunchTemplateData", {}))
        own = {name: value for name, value in request.items() if value not in (None, [], {}, "")}
        spec = {**data, **own}
        image = self._image(spec, images)
        subnet = self._subnet(spec)
        return LaunchSpec(
            instance_type=_instance_type(spec, subnet["AvailabilityZone"], image),
            image=image,
            subnet=subnet,
            groups=self._groups(spec, subnet),
            volumes=_volumes(spec, image),
            profile=self._profile(spec.get("IamInstanceProfile")),
            market=(spec.get("InstanceMarketOptions") or {}).get("MarketType") or "on-demand",
            user_data=_user_data(spec.get("UserData", "")),
            on_shutdown=spec.get("InstanceInitiatedShutdownBehavior", "stop"),
            metadata_options={
                **METADATA_DEFAULTS,
                **(data.get("MetadataOptions") or {}),
                **(own.get("MetadataOptions") or {}),
            },
            tag_specifications=[
                *data.get("TagSpecifications", []),
                *own.get("TagSpecifications", []),
            ],
            template_id=template.get("LaunchTemplateId"),
            template_version=str(template["VersionNumber"]) if template else None,
            template_tags=self._template_tags(template.get("LaunchTemplateId")),
            template_keys=frozenset(set(data) - set(own)),
            key_name=spec.get("KeyName"),
            ebs_optimized=_is_true(spec.get("EbsOptimized")),
            monitoring=_is_true((spec.get("Monitoring") or {}).get("Enabled")),
            public_address=_is_true(
                (spec.get("NetworkInterfaces") or [{}])[0].get("AssociatePublicIpAddress")
            ),
            placement=spec.get("Placement") or {},
        )

    def subnets(self) -> list[SubnetTypeDef]:
        """Return all subnets."""
        return list(self._network.describe_subnets()["Subnets"])

    def _template(self, reference: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return a version of a launch template, or an empty dictionary without a template."""
        if not reference:
            return {}
        which = {
            key: reference[key]
            for key in ("LaunchTemplateId", "LaunchTemplateName")
            if reference.get(key)
        }
        if len(which) != 1:
            raise Ec2ApiError(
                "MissingParameter" if not which else "InvalidParameterCombination",
                "The request must name the launch template by exactly one of its id and its name.",
            )
        version = str(reference.get("Version") or "$Default")
        try:
            found = self._network.describe_launch_template_versions(**which, Versions=[version])[
                "LaunchTemplateVersions"
            ]
        except ClientError as error:
            raise _template_fault(which, error) from None
        if not found:
            name = next(iter(which.values()))
            raise Ec2ApiError(
                "InvalidLaunchTemplateId.VersionNotFound",
                f"Could not find the specified version {version} for the launch template with ID "
                f"{name}.",
            )
        return dict(found[0])

    def _template_tags(self, template_id: str | None) -> dict[str, str]:
        """Return a launch template's own tags."""
        if not template_id:
            return {}
        found = self._network.describe_launch_templates(LaunchTemplateIds=[template_id])[
            "LaunchTemplates"
        ]
        return {tag["Key"]: tag["Value"] for tag in found[0].get("Tags", [])} if found else {}

    @staticmethod
    def _image(
        spec: Mapping[str, Any], images: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        """Return the image that a launch names."""
        image_id = spec.get("ImageId")
        if not image_id:
            raise Ec2ApiError("MissingParameter", "The request must contain the parameter ImageId")
        if image_id not in images:
            if not str(image_id).startswith("ami-"):
                raise Ec2ApiError(
                    "InvalidAMIID.Malformed", f'Invalid id: "{image_id}" (expecting "ami-...")'
                )
            raise Ec2ApiError(
                "InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist"
            )
        return images[image_id]

    def _subnet(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Return the subnet that a launch names, or a default subnet."""
        interface = (spec.get("NetworkInterfaces") or [{}])[0]
        subnet_id = spec.get("SubnetId") or interface.get("SubnetId")
        chosen = (
            {"SubnetIds": [subnet_id]}
            if subnet_id
            else {"Filters": [{"Name": "default-for-az", "Values": ["true"]}]}
        )
        try:
            found = self._network.describe_subnets(**chosen)["Subnets"]
        except ClientError as error:
            raise as_fault(error) from None
        if not found and subnet_id:
            raise Ec2ApiError(
                "InvalidSubnetID.NotFound", f"The subnet ID '{subnet_id}' does not exist"
            )
        if not found:
            raise Ec2ApiError(
                "MissingInput", "No subnets found for the default VPC. Please specify a subnet."
            )
        zone = (spec.get("Placement") or {}).get("AvailabilityZone")
        return dict(next((s for s in found if zone in (None, s["AvailabilityZone"])), found[0]))

    def _groups(self, spec: Mapping[str, Any], subnet: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the security groups that a launch names, or the VPC's default group."""
        interface = (spec.get("NetworkInterfaces") or [{}])[0]
        if (
            interface
            and (spec.get("SecurityGroupIds") or spec.get("SecurityGroups"))
            and "NetworkInterfaces" in spec
        ):
            raise Ec2ApiError(
                "InvalidParameterCombination",
                "Network interfaces and an instance-level security groups may not be specified on "
                "the same request",
            )
        wanted = spec.get("SecurityGroupIds") or interface.get("Groups") or []
        chosen = (
            {"GroupIds": wanted}
            if wanted
            else {
                "Filters": [
                    {"Name": "vpc-id", "Values": [subnet["VpcId"]]},
                    {"Name": "group-name", "Values": ["default"]},
                ]
            }
        )
        try:
            found = [
                dict(g) for g in self._network.describe_security_groups(**chosen)["SecurityGroups"]
            ]
        except ClientError as error:
            raise as_fault(error) from None
        missing = set(wanted) - {group["GroupId"] for group in found}
        if missing:
            raise Ec2ApiError(
                "InvalidGroup.NotFound",
                f"The security group '{sorted(missing)[0]}' does not exist in VPC "
                f"'{subnet['VpcId']}'",
            )
        if any(group["VpcId"] != subnet["VpcId"] for group in found):
            raise Ec2ApiError(
                "InvalidParameter",
                f"Security group {found[0]['GroupId']} and subnet {subnet['SubnetId']} belong to "
                "different networks.",
            )
        return found

    def _profile(self, reference: Mapping[str, Any] | None) -> dict[str, Any] | None:
        """Return the instance profile with its role, or None for a launch without profile."""
        if not reference:
            return None
        by_arn = "Name" not in reference
        name = str(reference.get("Name") or reference["Arn"].rsplit("/", 1)[-1])
        invalid = Ec2ApiError(
            "InvalidParameterValue",
            f"Value ({reference['Arn'] if by_arn else name}) for parameter "
            f"iamInstanceProfile.{'arn' if by_arn else 'name'} "
            f"is invalid. Invalid IAM Instance Profile {'ARN' if by_arn else 'name'}",
        )
        try:
            profile = dict(
                self._iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]
            )
        except ClientError:
            raise invalid from None
        if not profile["Roles"] or (by_arn and profile["Arn"] != reference["Arn"]):
            raise invalid
        return profile


def _template_fault(which: Mapping[str, Any], error: ClientError) -> Ec2ApiError:
    """Return EC2's error for a template that does not exist, depending on how it was named."""
    fault = as_fault(error)
    if "LaunchTemplateName" in which and fault.code == "InvalidLaunchTemplateId.NotFoundException":
        text = (
            f"The specified launch template, with template name {which['LaunchTemplateName']}, "
            "does not exist."
        )
        return Ec2ApiError("InvalidLaunchTemplateName.NotFoundException", text)
    return fault


def as_tags(specifications: Any, kind: str) -> dict[str, str]:
    """Return the tags that a request gives to one kind of resource."""
    chosen = [s for s in specifications or [] if s.get("ResourceType") == kind]
    return {tag["Key"]: tag.get("Value", "") for s in chosen for tag in s.get("Tags", [])}


def as_fault(error: ClientError) -> Ec2ApiError:
    """Return the error of another service as an error of EC2."""
    return Ec2ApiError(error.response["Error"]["Code"], error.response["Error"]["Message"])


def _is_true(value: Any) -> bool:
    """Read a flag, which a template may hold as text."""
    return str(value).lower() == "true"


def _instance_type(spec: Mapping[str, Any], zone: str, image: Mapping[str, Any]) -> str:
    """Return the instance type, if the zone offers it and the image runs on it."""
    name = str(spec.get("InstanceType") or "m1.small")
    if name not in CATALOG:
        raise Ec2ApiError("InvalidParameterValue", f"Invalid value '{name}' for InstanceType.")
    if not is_offered(name, zone):
        raise Ec2ApiError(
            "Unsupported",
            f"Your requested instance type ({name}) is not supported in your requested "
            f"Availability Zone ({zone}).",
        )
    if CATALOG[name].architecture != image["Architecture"]:
        raise Ec2ApiError(
            "InvalidParameterValue",
            f"The architecture '{CATALOG[name].architecture}' of the specified instance type does "
            "not match the "
            f"architecture '{image['Architecture']}' of the specified AMI. "
            "Specify an instance type and an AMI that have matching architectures, and try again.",
        )
    return name


def _volumes(spec: Mapping[str, Any], image: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the image's disks, with the changes and additions of the request or template."""
    disks = {
        m["DeviceName"]: dict(m["Ebs"]) for m in image.get("BlockDeviceMappings", []) if "Ebs" in m
    }
    for mapping in spec.get("BlockDeviceMappings") or []:
        disks[mapping["DeviceName"]] = {
            **disks.get(mapping["DeviceName"], {"DeleteOnTermination": True}),
            **(mapping.get("Ebs") or {}),
        }
    return [_volume(device, ebs) for device, ebs in disks.items()]


def _volume(device: str, ebs: Mapping[str, Any]) -> dict[str, Any]:
    """Return one disk."""
    kept = {name: ebs[name] for name in ("KmsKeyId", "SnapshotId") if ebs.get(name)}
    kind = ebs.get("VolumeType", "gp3")
    speed = (
        {"Iops": int(ebs.get("Iops", 3000)), "Throughput": int(ebs.get("Throughput", 125))}
        if kind == "gp3"
        else {}
    )
    return {
        "Device": device,
        "Size": int(ebs.get("VolumeSize", 8)),
        "VolumeType": kind,
        "Encrypted": _is_true(ebs.get("Encrypted")),
        "DeleteOnTermination": _is_true(ebs.get("DeleteOnTermination", True)),
        **speed,
        **kept,
    }


def _user_data(encoded: str) -> str:
    """Check the user data and return it unchanged, in base64."""
    try:
        raw = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise Ec2ApiError(
            "InvalidUserData.Malformed", "Invalid BASE64 encoding of user data."
        ) from None
    if len(raw) > USER_DATA_LIMIT:
        raise Ec2ApiError(
            "InvalidParameterValue", f"User data is limited to {USER_DATA_LIMIT} bytes"
        )
    return encoded
