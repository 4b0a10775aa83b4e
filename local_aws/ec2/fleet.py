"""CreateFleet of type `instant`: the order of the choices, the targets and the parts of the answer.

Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instant-fleet.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from local_aws.ec2.catalog import CATALOG
from local_aws.emulator.wire import Ec2ApiError

Choice = tuple[Mapping[str, Any], Mapping[str, Any]]
"""The reference of a launch template, and one override."""
OVERRIDABLE = (
    "InstanceType",
    "SubnetId",
    "ImageId",
    "Placement",
    "BlockDeviceMappings",
    "IamInstanceProfile",
    "KeyName",
    "MetadataOptions",
)
"""What an override of an instant fleet changes in a launch:
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_FleetLaunchTemplateOverridesRequest.html"""
UNKNOWN_PRICE = 1e9


def choices(configs: Sequence[Mapping[str, Any]]) -> list[Choice]:
    """List each template with each of its overrides, in the order of the request."""
    return [
        (config["LaunchTemplateSpecification"], override)
        for config in configs
        for override in config.get("Overrides") or [{}]
    ]


def strategy_of(request: Mapping[str, Any], market: str) -> str:
    """Return the allocation strategy of a market, or AWS's default."""
    options = request.get("SpotOptions" if market == "spot" else "OnDemandOptions") or {}
    return str(options.get("AllocationStrategy", "lowest-price"))


def in_order(
    tries: Sequence[Choice], strategy: str, market: str, zone_of: Mapping[str, str]
) -> list[Choice]:
    """Sort choices by a strategy.

    The depth of AWS's capacity pools is unknown here. So `capacity-optimized` keeps the order of
    the request, and `price-capacity-optimized` takes the cheapest choice first.

    :param zone_of: the zone of each subnet, by the subnet's id.
    """
    if strategy in ("prioritized", "capacity-optimized-prioritized"):
        return sorted(tries, key=lambda choice: float(choice[1].get("Priority", UNKNOWN_PRICE)))
    if strategy in ("lowest-price", "price-capacity-optimized", "diversified"):
        return sorted(tries, key=lambda choice: _price(choice[1], market, zone_of))
    return list(tries)


def _price(override: Mapping[str, Any], market: str, zone_of: Mapping[str, str]) -> float:
    """Return the price of an override for one hour in USD."""
    known = CATALOG.get(str(override.get("InstanceType")))
    if known is None:
        return UNKNOWN_PRICE
    return (
        known.spot_usd(zone_of.get(str(override.get("SubnetId")), ""))
        if market == "spot"
        else known.on_demand_usd
    )


def targets(specification: Mapping[str, Any]) -> dict[str, int]:
    """Return the requested number of instances by market.

    :raises Ec2ApiError: InvalidParameterValue if the parts exceed the total.
    """
    total = int(specification["TotalTargetCapacity"])
    default = str(specification.get("DefaultTargetCapacityType", "on-demand"))
    asked = {
        "on-demand": int(specification.get("OnDemandTargetCapacity", 0)),
        "spot": int(specification.get("SpotTargetCapacity", 0)),
    }
    rest = total - sum(asked.values())
    if total < 0 or rest < 0:
        raise Ec2ApiError(
            "InvalidParameterValue",
            "The sum of the on-demand and spot target capacities exceeds the total target "
            "capacity.",
        )
    asked[default] += rest
    return {market: count for market, count in asked.items() if count}


def as_run_request(
    template: Mapping[str, Any],
    override: Mapping[str, Any],
    market: str,
    tags: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the RunInstances request of one choice."""
    request = {key: override[key] for key in OVERRIDABLE if override.get(key)}
    market_options = (
        {"InstanceMarketOptions": {"MarketType": "spot"}}
        if market == "spot"
        else {"InstanceMarketOptions": {"MarketType": None}}
    )
    return {
        "LaunchTemplate": template,
        "TagSpecifications": list(tags),
        **request,
        **market_options,
    }


def described(
    template: Mapping[str, Any], override: Mapping[str, Any], market: str
) -> dict[str, Any]:
    """Return a choice as CreateFleet's answer names it."""
    return {
        "LaunchTemplateAndOverrides": {
            "LaunchTemplateSpecification": dict(template),
            "Overrides": dict(override),
        },
        "Lifecycle": market,
    }
