"""Describe calls for resources of the emulator: networks, templates and addresses.

The emulator finds the resources; the filters and pages are ours. The emulator ignores filters that
it does not know, and would answer them with all resources.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local_aws.ec2 import filters
from local_aws.ec2.filters import Reader, each, path
from local_aws.emulator import seams

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

Request = Mapping[str, Any]
Response = dict[str, Any]


def within(outer: str, inner: str, *below: str) -> Reader:
    """Return a function that reads values from a list in each member of a list."""
    read = each(inner, *below)
    return lambda record: [value for item in record.get(outer) or [] for value in read(item)]


def _permissions(member: str) -> dict[str, Reader]:
    """Return the filters on the rules of a security group."""
    prefix = "egress." if member.endswith("Egress") else ""
    return {
        f"{prefix}ip-permission.cidr": within(member, "IpRanges", "CidrIp"),
        f"{prefix}ip-permission.from-port": each(member, "FromPort"),
        f"{prefix}ip-permission.to-port": each(member, "ToPort"),
        f"{prefix}ip-permission.protocol": each(member, "IpProtocol"),
        f"{prefix}ip-permission.group-id": within(member, "UserIdGroupPairs", "GroupId"),
        f"{prefix}ip-permission.prefix-list-id": within(member, "PrefixListIds", "PrefixListId"),
    }


@dataclass(frozen=True)
class ResourceKind:
    """One kind of resource.

    :param method: boto3's name of the call.
    :param member: the member of the answer that contains the resources.
    :param known: the filters of the call.
    :param ids: the parameters that choose resources by id or name; the emulator understands them.
    """

    method: str
    member: str
    known: Mapping[str, Reader]
    ids: tuple[str, ...]
    smallest_page: int = 5


VPC = {
    "cidr": path("CidrBlock"),
    "cidr-block-association.cidr-block": each("CidrBlockAssociationSet", "CidrBlock"),
    "dhcp-options-id": path("DhcpOptionsId"),
    "is-default": path("IsDefault"),
    "owner-id": path("OwnerId"),
    "state": path("State"),
    "vpc-id": path("VpcId"),
}
SUBNET = {
    "availability-zone": path("AvailabilityZone"),
    "availability-zone-id": path("AvailabilityZoneId"),
    "cidr-block": path("CidrBlock"),
    "default-for-az": path("DefaultForAz"),
    "map-public-ip-on-launch": path("MapPublicIpOnLaunch"),
    "owner-id": path("OwnerId"),
    "state": path("State"),
    "subnet-arn": path("SubnetArn"),
    "subnet-id": path("SubnetId"),
    "vpc-id": path("VpcId"),
}
GROUP = {
    "description": path("Description"),
    "group-id": path("GroupId"),
    "group-name": path("GroupName"),
    "owner-id": path("OwnerId"),
    "vpc-id": path("VpcId"),
    **_permissions("IpPermissions"),
    **_permissions("IpPermissionsEgress"),
}
ROUTE_TABLE = {
    "association.main": each("Associations", "Main"),
    "association.route-table-association-id": each("Associations", "RouteTableAssociationId"),
    "association.route-table-id": each("Associations", "RouteTableId"),
    "association.subnet-id": each("Associations", "SubnetId"),
    "owner-id": path("OwnerId"),
    "route-table-id": path("RouteTableId"),
    "route.destination-cidr-block": each("Routes", "DestinationCidrBlock"),
    "route.gateway-id": each("Routes", "GatewayId"),
    "route.nat-gateway-id": each("Routes", "NatGatewayId"),
    "route.state": each("Routes", "State"),
    "vpc-id": path("VpcId"),
}
INTERNET_GATEWAY = {
    "attachment.state": each("Attachments", "State"),
    "attachment.vpc-id": each("Attachments", "VpcId"),
    "internet-gateway-id": path("InternetGatewayId"),
    "owner-id": path("OwnerId"),
}
NAT_GATEWAY = {
    "nat-gateway-id": path("NatGatewayId"),
    "state": path("State"),
    "subnet-id": path("SubnetId"),
    "vpc-id": path("VpcId"),
}
ADDRESS = {
    "allocation-id": path("AllocationId"),
    "association-id": path("AssociationId"),
    "instance-id": path("InstanceId"),
    "network-interface-id": path("NetworkInterfaceId"),
    "private-ip-address": path("PrivateIpAddress"),
    "public-ip": path("PublicIp"),
}
TEMPLATE = {"create-time": path("CreateTime"), "launch-template-name": path("LaunchTemplateName")}
PREFIX_LIST = {
    "owner-id": path("OwnerId"),
    "prefix-list-id": path("PrefixListId"),
    "prefix-list-name": path("PrefixListName"),
}
ZONE = {
    "group-name": path("GroupName"),
    "opt-in-status": path("OptInStatus"),
    "region-name": path("RegionName"),
    "state": path("State"),
    "zone-id": path("ZoneId"),
    "zone-name": path("ZoneName"),
    "zone-type": path("ZoneType"),
}
KINDS = {
    "DescribeVpcs": ResourceKind("describe_vpcs", "Vpcs", VPC, ("VpcIds",)),
    "DescribeSubnets": ResourceKind("describe_subnets", "Subnets", SUBNET, ("SubnetIds",)),
    "DescribeSecurityGroups": ResourceKind(
        "describe_security_groups", "SecurityGroups", GROUP, ("GroupIds", "GroupNames")
    ),
    "DescribeRouteTables": ResourceKind(
        "describe_route_tables", "RouteTables", ROUTE_TABLE, ("RouteTableIds",)
    ),
    "DescribeInternetGateways": ResourceKind(
        "describe_internet_gateways", "InternetGateways", INTERNET_GATEWAY, ("InternetGatewayIds",)
    ),
    "DescribeNatGateways": ResourceKind(
        "describe_nat_gateways", "NatGateways", NAT_GATEWAY, ("NatGatewayIds",)
    ),
    "DescribeAddresses": ResourceKind(
        "describe_addresses", "Addresses", ADDRESS, ("PublicIps", "AllocationIds")
    ),
    "DescribeLaunchTemplates": ResourceKind(
        "describe_launch_templates",
        "LaunchTemplates",
        TEMPLATE,
        ("LaunchTemplateIds", "LaunchTemplateNames"),
        1,
    ),
    "DescribeManagedPrefixLists": ResourceKind(
        "describe_managed_prefix_lists", "PrefixLists", PREFIX_LIST, ("PrefixListIds",), 1
    ),
    "DescribeAvailabilityZones": ResourceKind(
        "describe_availability_zones",
        "AvailabilityZones",
        ZONE,
        ("ZoneNames", "ZoneIds", "AllAvailabilityZones"),
    ),
}
"""The kinds of resource by the action that describes them."""
filters.TAGGED += (
    VPC,
    SUBNET,
    GROUP,
    ROUTE_TABLE,
    INTERNET_GATEWAY,
    NAT_GATEWAY,
    ADDRESS,
    TEMPLATE,
    PREFIX_LIST,
)


class Networks:
    """Answers the calls of :data:`KINDS`.

    :param network: a client of the emulator's EC2.
    """

    def __init__(self, network: EC2Client) -> None:
        self._network = network

    def reads(self) -> dict[str, Callable[[Request], Response]]:
        """Return the function that answers each action."""
        return {action: self._reading(kind) for action, kind in KINDS.items()}

    def _reading(self, kind: ResourceKind) -> Callable[[Request], Response]:
        """Return the function that describes one kind of resource."""

        def read(request: Request) -> Response:
            answer = getattr(self._network, kind.method)(
                **{name: request[name] for name in kind.ids if request.get(name)}
            )
            found = answer[kind.member]
            if kind.member == "NatGateways":
                found = [with_addresses(gateway) for gateway in found]
            chosen = filters.select(
                found, request.get("Filters") or request.get("Filter") or [], kind.known
            )
            page, after = filters.page(
                chosen,
                request.get("MaxResults"),
                request.get("NextToken"),
                smallest=kind.smallest_page,
            )
            return {kind.member: page, **({"NextToken": after} if after else {})}

        return read


def with_addresses(gateway: Response) -> Response:
    """Return a NAT gateway with its address, which the emulator keeps but does not report."""
    record = seams.module("services.ec2")._nat_gateways.get(gateway["NatGatewayId"]) or {}
    allocation = record.get("AllocationId")
    return {**gateway, "NatGatewayAddresses": [{"AllocationId": allocation}] if allocation else []}
