"""What EC2 says of the day: which zones offer a type, and what spot costs there. Falls back to the dated table."""

import logging
from collections.abc import Iterable
from typing import Any

from rl_lifecycle.prices import hourly_usd


class MarketPrices:
    """Look-ups that a launch may do without: each answer None means that it could not be had.

    :param ec2: a boto3 EC2 client; None: never look up.
    """

    def __init__(self, ec2: Any, log: logging.Logger) -> None:
        self.ec2, self.log = ec2, log

    def offered_zones(self, instance_types: Iterable[str]) -> dict[str, tuple[str, ...]] | None:
        """Type → zones that offer it; None if EC2 would not say."""
        if self.ec2 is None:
            return None
        found: dict[str, list[str]] = {}
        try:
            pages = self.ec2.get_paginator("describe_instance_type_offerings").paginate(
                LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": list(instance_types)}])
            for page in pages:
                for offer in page["InstanceTypeOfferings"]:
                    found.setdefault(offer["InstanceType"], []).append(offer["Location"])
        except Exception as error:
            self.log.info("which zones offer the types is not known (%s); all are asked for", _first_line(error))
            return None
        return {name: tuple(zones) for name, zones in found.items()}

    def on_demand(self, instance_types: Iterable[str]) -> dict[str, float] | None:
        """On-demand prices of the day; None: the table is used. The price list has no endpoint inside a VPC."""
        del instance_types
        return None

    def paid(self, instance_type: str, market: str, zone: str) -> float:
        """US dollars an hour to settle with: the spot price history's newest, else the table's."""
        spot = self._spot(instance_type, zone) if market == "spot" else None
        return hourly_usd(instance_type, market, spot)

    def _spot(self, instance_type: str, zone: str) -> float | None:
        if self.ec2 is None or not instance_type or not zone:
            return None
        try:
            answer = self.ec2.describe_spot_price_history(
                InstanceTypes=[instance_type], AvailabilityZone=zone, ProductDescriptions=["Linux/UNIX"], MaxResults=1)
            history = answer.get("SpotPriceHistory") or ()
            return float(history[0]["SpotPrice"]) if history else None
        except Exception as error:
            self.log.info("the spot price of %s in %s could not be read (%s); the table's is used", instance_type, zone,
                          _first_line(error))
            return None


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
