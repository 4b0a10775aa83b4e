"""Resource types that the emulator's CloudFormation lacks, made through the services' own APIs."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Protocol

from local_aws.emulator import inproc, seams

Properties = Mapping[str, Any]
Made = tuple[str, dict[str, Any]]


def _tags(properties: Properties, kind: str) -> list[dict[str, Any]]:
    """Return tags in the form of EC2's create calls."""
    tags = [tag for tag in properties.get("Tags") or [] if not str(tag["Key"]).startswith("aws:")]
    return [{"ResourceType": kind, "Tags": tags}] if tags else []


TAGGED = (
    "AWS::EC2::FlowLog",
    "AWS::EC2::EIP",
    "AWS::EC2::NatGateway",
    "AWS::S3::Bucket",
    "AWS::Events::Rule",
)
"""Types that get the tags of their stack, besides the types for which the emulator does that."""


class AddedType(Protocol):
    """Creates and deletes the resources of one type in one region."""

    def create(self, logical_id: str, properties: Properties, stack_name: str, /) -> Made:
        """Create a resource; return its physical id and its attributes."""

    def delete(self, physical_id: str, properties: Properties, /) -> None:
        """Delete a resource."""


class FlowLog:
    """Flow logs of networks: `AWS::EC2::FlowLog`."""

    def __init__(self, region: str) -> None:
        self._ec2 = inproc.client("ec2", region)

    def create(self, _logical_id: str, properties: Properties, _stack_name: str) -> Made:
        """Create a flow log."""
        names = {
            "DeliverLogsPermissionArn",
            "LogGroupName",
            "LogDestinationType",
            "LogDestination",
            "LogFormat",
            "TrafficType",
        }
        given = {name: properties[name] for name in names & set(properties)}
        if "MaxAggregationInterval" in properties:
            given["MaxAggregationInterval"] = int(properties["MaxAggregationInterval"])
        answer = self._ec2.create_flow_logs(
            ResourceIds=[properties["ResourceId"]],
            ResourceType=properties["ResourceType"],
            TagSpecifications=_tags(properties, "vpc-flow-log"),
            **given,
        )
        if answer.get("Unsuccessful"):
            raise ValueError(answer["Unsuccessful"][0]["Error"]["Message"])
        made = str(answer["FlowLogIds"][0])
        seams.module("services.ec2")._flow_logs[made].update(given)
        if specified := _tags(properties, "vpc-flow-log"):
            self._ec2.create_tags(Resources=[made], Tags=specified[0]["Tags"])
        return made, {"Id": made}

    def delete(self, physical_id: str, _properties: Properties) -> None:
        """Delete a flow log."""
        self._ec2.delete_flow_logs(FlowLogIds=[physical_id])


class Address:
    """Public addresses: `AWS::EC2::EIP`."""

    def __init__(self, region: str) -> None:
        self._ec2 = inproc.client("ec2", region)

    def create(self, _logical_id: str, properties: Properties, _stack_name: str) -> Made:
        """Allocate an address."""
        answer = self._ec2.allocate_address(
            Domain="vpc", TagSpecifications=_tags(properties, "elastic-ip")
        )
        return str(answer["PublicIp"]), {
            "AllocationId": answer["AllocationId"],
            "PublicIp": answer["PublicIp"],
        }

    def delete(self, physical_id: str, _properties: Properties) -> None:
        """Release an address."""
        found = self._ec2.describe_addresses(PublicIps=[physical_id])["Addresses"]
        for address in found:
            self._ec2.release_address(AllocationId=address["AllocationId"])


class NatGateway:
    """NAT gateways: `AWS::EC2::NatGateway`."""

    def __init__(self, region: str) -> None:
        self._ec2 = inproc.client("ec2", region)

    def create(self, _logical_id: str, properties: Properties, _stack_name: str) -> Made:
        """Create a NAT gateway."""
        given = (
            {"AllocationId": properties["AllocationId"]}
            if "AllocationId" in properties
            else {"ConnectivityType": "private"}
        )
        answer = self._ec2.create_nat_gateway(
            SubnetId=properties["SubnetId"],
            TagSpecifications=_tags(properties, "natgateway"),
            **given,
        )
        made = str(answer["NatGateway"]["NatGatewayId"])
        return made, {"NatGatewayId": made}

    def delete(self, physical_id: str, _properties: Properties) -> None:
        """Delete a NAT gateway."""
        self._ec2.delete_nat_gateway(NatGatewayId=physical_id)


class SecurityGroupRule:
    """Rules: `AWS::EC2::SecurityGroupIngress` and `AWS::EC2::SecurityGroupEgress`."""

    def __init__(self, region: str, direction: str) -> None:
        ec2 = inproc.client("ec2", region)
        self._authorize = getattr(ec2, f"authorize_security_group_{direction}")
        self._revoke = getattr(ec2, f"revoke_security_group_{direction}")
        self._peer = (
            "SourceSecurityGroupId" if direction == "ingress" else "DestinationSecurityGroupId"
        )
        self._list = "SourcePrefixListId" if direction == "ingress" else "DestinationPrefixListId"

    def _permission(self, properties: Properties) -> dict[str, Any]:
        """Return the rule in the API's form."""
        note = {"Description": properties["Description"]} if properties.get("Description") else {}
        made: dict[str, Any] = {"IpProtocol": str(properties["IpProtocol"])}
        made |= {
            name: int(properties[name]) for name in ("FromPort", "ToPort") if name in properties
        }
        for name, member, key in (
            ("CidrIp", "IpRanges", "CidrIp"),
            ("CidrIpv6", "Ipv6Ranges", "CidrIpv6"),
            (self._list, "PrefixListIds", "PrefixListId"),
            (self._peer, "UserIdGroupPairs", "GroupId"),
        ):
            if properties.get(name):
                made[member] = [{key: properties[name], **note}]
        return made

    def create(self, _logical_id: str, properties: Properties, _stack_name: str) -> Made:
        """Add a rule."""
        self._authorize(GroupId=properties["GroupId"], IpPermissions=[self._permission(properties)])
        made = f"sgr-0{secrets.token_hex(8)}"
        return made, {"Id": made}

    def delete(self, _physical_id: str, properties: Properties) -> None:
        """Remove a rule."""
        self._revoke(GroupId=properties["GroupId"], IpPermissions=[self._permission(properties)])


class Budget:
    """Budgets: `AWS::Budgets::Budget`."""

    def __init__(self, region: str, account_id: str) -> None:
        self._budgets = inproc.client("budgets", region)
        self._account_id = account_id

    def create(self, logical_id: str, properties: Properties, stack_name: str) -> Made:
        """Create a budget with its notifications."""
        budget = dict(properties["Budget"])
        name = budget.setdefault("BudgetName", f"{stack_name}-{logical_id}-{secrets.token_hex(4)}")
        budget["BudgetLimit"] = {
            "Amount": str(budget["BudgetLimit"]["Amount"]),
            "Unit": budget["BudgetLimit"]["Unit"],
        }
        notes = [
            _notification(entry) for entry in properties.get("NotificationsWithSubscribers") or []
        ]
        self._budgets.create_budget(
            AccountId=self._account_id, Budget=budget, NotificationsWithSubscribers=notes
        )
        return str(name), {}

    def delete(self, physical_id: str, _properties: Properties) -> None:
        """Delete a budget."""
        self._budgets.delete_budget(AccountId=self._account_id, BudgetName=physical_id)


def _notification(entry: Properties) -> dict[str, Any]:
    """Return a notification with a numeric threshold, which a template may write as text."""
    return {
        "Notification": {
            **entry["Notification"],
            "Threshold": float(entry["Notification"]["Threshold"]),
        },
        "Subscribers": list(entry["Subscribers"]),
    }


def all_types(region: str, account_id: str) -> dict[str, AddedType]:
    """Return every type that is added to the emulator's types."""
    return {
        "AWS::EC2::FlowLog": FlowLog(region),
        "AWS::EC2::EIP": Address(region),
        "AWS::EC2::NatGateway": NatGateway(region),
        "AWS::EC2::SecurityGroupIngress": SecurityGroupRule(region, "ingress"),
        "AWS::EC2::SecurityGroupEgress": SecurityGroupRule(region, "egress"),
        "AWS::Budgets::Budget": Budget(region, account_id),
    }
