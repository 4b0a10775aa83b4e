"""Requests about networks and launch templates that EC2 refuses and the emulator would accept.

Sources: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html and
https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from local_aws.emulator import seams
from local_aws.emulator.wire import Ec2ApiError

Request = Mapping[str, Any]
WIDEST, NARROWEST = 16, 28
"""The smallest and largest prefix length of VPCs and subnets."""


def check(action: str, request: Request) -> None:
    """Check a request before the emulator serves it.

    :raises Ec2ApiError: with EC2's code and message.
    """
    if found := CHECKS.get(action):
        found(request)


def _network(block: Any, code: str) -> ipaddress.IPv4Network:
    """Return an address range, if it is neither too wide nor too narrow."""
    try:
        network = ipaddress.IPv4Network(str(block), strict=False)
    except ValueError:
        raise Ec2ApiError(
            "InvalidParameterValue", f"Value ({block}) for parameter cidrBlock is invalid."
        ) from None
    if not WIDEST <= network.prefixlen <= NARROWEST:
        raise Ec2ApiError(code, f"The CIDR '{block}' is invalid.")
    return network


def check_vpc(request: Request) -> None:
    """Refuse a VPC that is larger than /16 or smaller than /28."""
    if request.get("CidrBlock"):
        _network(request["CidrBlock"], "InvalidVpc.Range")


def check_subnet(request: Request) -> None:
    """Refuse a subnet outside its VPC, or one that overlaps another subnet."""
    if not request.get("CidrBlock"):
        return
    ec2, block = seams.module("services.ec2"), request["CidrBlock"]
    network, vpc = _network(block, "InvalidSubnet.Range"), ec2._vpcs.get(request.get("VpcId"))
    if vpc and not network.subnet_of(ipaddress.IPv4Network(vpc["CidrBlock"])):
        raise Ec2ApiError("InvalidSubnet.Range", f"The CIDR '{block}' is invalid.")
    siblings = [s for s in ec2._subnets.values() if s.get("VpcId") == request.get("VpcId")]
    if any(network.overlaps(ipaddress.IPv4Network(sibling["CidrBlock"])) for sibling in siblings):
        raise Ec2ApiError(
            "InvalidSubnet.Conflict", f"The CIDR '{block}' conflicts with another subnet"
        )


def check_group(request: Request) -> None:
    """Refuse a security group whose name is taken in its VPC."""
    groups = seams.module("services.ec2")._security_groups
    name, vpc = request.get("GroupName"), request.get("VpcId")
    if vpc and any(
        (group.get("GroupName"), group.get("VpcId")) == (name, vpc) for group in groups.values()
    ):
        raise Ec2ApiError(
            "InvalidGroup.Duplicate", f"The security group '{name}' already exists for VPC '{vpc}'"
        )


def _checking_rules(member: str) -> Callable[[Request], None]:
    """Return the check that a security group does not have a rule yet."""

    def check_rules(request: Request) -> None:
        group = seams.module("services.ec2")._security_groups.get(request.get("GroupId")) or {}
        known = {rule for permission in group.get(member) or [] for rule in _rules(permission)}
        for permission in request.get("IpPermissions") or []:
            for rule in _rules(permission):
                if rule in known:
                    text = (
                        f"peer: {rule[3]}, {rule[0].upper()}, from port: {rule[1]}, to port: "
                        f"{rule[2]}, ALLOW"
                    )
                    raise Ec2ApiError(
                        "InvalidPermission.Duplicate", f'the specified rule "{text}" already exists'
                    )

    return check_rules


def _rules(permission: Request) -> Iterator[tuple[str, str, str, str]]:
    """Yield the rules of a permission, each as protocol, ports and peer."""
    ports = (
        str(permission.get("IpProtocol")),
        str(permission.get("FromPort")),
        str(permission.get("ToPort")),
    )
    for member, name in (
        ("IpRanges", "CidrIp"),
        ("Ipv6Ranges", "CidrIpv6"),
        ("PrefixListIds", "PrefixListId"),
        ("UserIdGroupPairs", "GroupId"),
    ):
        yield from ((*ports, str(peer.get(name))) for peer in permission.get(member) or [])


def check_template(request: Request) -> None:
    """Refuse a launch template whose name is taken."""
    templates = seams.module("services.ec2")._launch_templates
    name = request.get("LaunchTemplateName")
    if any(template.get("LaunchTemplateName") == name for template in templates.values()):
        raise Ec2ApiError(
            "InvalidLaunchTemplateName.AlreadyExistsException",
            "Launch template name already in use.",
        )


CHECKS: dict[str, Callable[[Request], None]] = {
    "CreateVpc": check_vpc,
    "CreateSubnet": check_subnet,
    "CreateSecurityGroup": check_group,
    "AuthorizeSecurityGroupIngress": _checking_rules("IpPermissions"),
    "AuthorizeSecurityGroupEgress": _checking_rules("IpPermissionsEgress"),
    "CreateLaunchTemplate": check_template,
}
