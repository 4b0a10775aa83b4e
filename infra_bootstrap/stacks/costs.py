"""Estimate what the stacks cost a month while nothing runs. The numbers are only approximate.

They are list prices of us-east-1. They come from general knowledge, not from AWS. Other regions
have other prices. Public addresses and requests have the prices of
:mod:`rl_lifecycle.machines.service_prices`. Compare with https://aws.amazon.com/vpc/pricing/ and
https://aws.amazon.com/cloudwatch/pricing/. A machine, an evaluation and a stored gigabyte cost
extra. docs/aws-account.md has approximate numbers.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from rl_lifecycle.machines.service_prices import TABLE

#: EC2 and CloudWatch count 730 hours a month in their price examples.
HOURS_OF_MONTH = 730
#: US dollars a month for each resource, by type. A type that is not listed costs nothing while the
#: resource is idle.
MONTHLY_USD: dict[str, float] = {
    "AWS::EC2::NatGateway": 32.85,  # 0.045 an hour
    "AWS::EC2::EIP": TABLE.prices.public_ipv4_hour * HOURS_OF_MONTH,  # any address since 2024
    "AWS::CloudWatch::Alarm": 0.10,
    "AWS::EC2::FlowLog": 0.50,  # per GB of refused traffic, of which there is very little
}
#: An interface endpoint costs 0.01 an hour and zone; a gateway endpoint costs nothing.
INTERFACE_ENDPOINT_USD = 7.30
#: The reaper: 2,880 runs a month of less than a second at 256 MiB, mostly within the free tier.
SCHEDULED_FUNCTION_USD = 0.02


def monthly_usd(resources: Mapping[str, Mapping[str, Any]]) -> float:
    """Add up what resources cost a month while nothing runs, US dollars.

    >>> monthly_usd({"A": {"Type": "AWS::CloudWatch::Alarm"}, "B": {"Type": "AWS::S3::Bucket"}})
    0.1
    """
    return round(sum(_usd(resource) for resource in resources.values()), 2)


def heartbeats_usd_an_hour(every_s: float) -> float:
    """Compute what one machine's heartbeats cost an hour, US dollars.

    Each heartbeat is a PUT request. Old versions are deleted after a day, and their storage costs
    next to nothing.

    :param every_s: seconds between two heartbeats.

    >>> heartbeats_usd_an_hour(15.0)
    0.0012
    """
    return round(3600 / every_s * TABLE.prices.s3_write, 6)


def explain(resources: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """List the resources that cost something with their price, the most expensive first."""
    costs = sorted(((_usd(resource), name) for name, resource in resources.items()), reverse=True)
    return [f"{name} {usd:.2f}" for usd, name in costs if usd]


def total(parts: Iterable[float]) -> float:
    """Add up US dollars, rounded to cents."""
    return round(sum(parts), 2)


def _usd(resource: Mapping[str, Any]) -> float:
    kind, properties = resource["Type"], resource.get("Properties", {})
    if kind == "AWS::EC2::VPCEndpoint" and properties.get("VpcEndpointType") == "Interface":
        return INTERFACE_ENDPOINT_USD
    if kind == "AWS::Events::Rule" and "ScheduleExpression" in properties:
        return SCHEDULED_FUNCTION_USD
    return MONTHLY_USD.get(str(kind), 0.0)
