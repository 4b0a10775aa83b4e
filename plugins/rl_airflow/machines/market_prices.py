"""Current offers and prices of EC2: zones, spot prices and on-demand prices.

Without an answer the dated price table is used.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from infra_bootstrap.stacks.price_list import read_machine_price
from rl_airflow.errors import first_line
from rl_airflow.infrastructure.aws_errors import aws_errors
from rl_airflow.infrastructure.service_prices import find_service_prices
from rl_lifecycle.machines.instance_types import AS_OF, PRICED_REGION
from rl_lifecycle.machines.prices import table_usd
from rl_lifecycle.machines.service_prices import TABLE, ServicePrices

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_pricing import PricingClient


class MarketPrices:
    """Optional look-ups for a launch. The result None means that there was no answer.

    :param ec2: a boto3 EC2 client. If it is None, nothing is looked up.
    :param make_pricing: makes a client of the price list, which has endpoints in few regions. If it
        is None, the table is used.
    """

    def __init__(
        self,
        ec2: "EC2Client | None",
        log: logging.Logger,
        make_pricing: "Callable[[], PricingClient] | None" = None,
    ) -> None:
        self.ec2, self.log, self.make_pricing = ec2, log, make_pricing
        self._services: ServicePrices | None = None

    def offered_zones(self, instance_types: Iterable[str]) -> dict[str, tuple[str, ...]] | None:
        """Return type → zones that offer it; None if EC2 did not answer."""
        if self.ec2 is None:
            return None
        found: dict[str, list[str]] = {}
        try:
            pages = self.ec2.get_paginator("describe_instance_type_offerings").paginate(
                LocationType="availability-zone",
                Filters=[{"Name": "instance-type", "Values": list(instance_types)}],
            )
            for page in pages:
                for offer in page["InstanceTypeOfferings"]:
                    found.setdefault(offer["InstanceType"], []).append(offer["Location"])
        except aws_errors() as error:
            self.log.info(
                "the zones that offer the types could not be read (%s); all zones are requested",
                first_line(error),
            )
            return None
        return {name: tuple(zones) for name, zones in found.items()}

    def on_demand(self, instance_types: Iterable[str]) -> dict[str, float] | None:
        """Return current on-demand prices by type from the price list. None means no answer."""
        if self.make_pricing is None or self.ec2 is None:
            return None
        region = self.ec2.meta.region_name
        try:
            pricing = self.make_pricing()
            found = {name: read_machine_price(pricing, region, name) for name in instance_types}
        except (*aws_errors(), LookupError, TypeError, ValueError) as error:
            self.log.warning(
                "the price list could not be read (%s); the table of %s is used, which has the "
                "prices of %s, and %s may be dearer",
                first_line(error),
                AS_OF,
                PRICED_REGION,
                region,
            )
            return None
        return {name: price for name, price in found.items() if price is not None}

    def hourly(self, instance_types: Sequence[str], market: str, now: datetime) -> dict[str, float]:
        """Return the present price of an hour by type. A type without an answer is left out.

        A spot price is that of the most expensive zone.
        """
        if market != "spot":
            return self.on_demand(instance_types) or {}
        if self.ec2 is None:
            return {}
        found: dict[str, float] = {}
        try:
            pages = self.ec2.get_paginator("describe_spot_price_history").paginate(
                # Unlike InstanceTypes, a filter may name a type that the region does not have.
                Filters=[{"Name": "instance-type", "Values": list(instance_types)}],
                ProductDescriptions=["Linux/UNIX"],
                StartTime=now,
            )
            for entry in (entry for page in pages for entry in page["SpotPriceHistory"]):
                name, usd = entry["InstanceType"], float(entry["SpotPrice"])
                found[name] = max(usd, found.get(name, 0.0))
        except (*aws_errors(), LookupError, TypeError, ValueError) as error:
            self.log.info(
                "the spot prices could not be read (%s); the table's are used", first_line(error)
            )
            return {}
        return found

    def services(self) -> ServicePrices:
        """Return the region's prices of what is billed besides machines.

        A price that the price list does not give is the table's. The answer is read once.
        """
        if self._services is None:
            self._services = (
                TABLE.prices
                if self.make_pricing is None or self.ec2 is None
                else find_service_prices(self.make_pricing, self.ec2.meta.region_name, self.log)
            )
        return self._services

    def paid(self, instance_type: str, market: str, zone: str, *, reserved: float) -> float:
        """Return the price of a machine that ran, US dollars per hour.

        The first source that has the price counts. For spot they are the newest spot price, the
        table, and the price list's on-demand price, which spot does not exceed. For on-demand they
        are the price list and the table.

        :param reserved: the price that was reserved per hour. It is used if no source has a price.
        """
        spot = self._spot(instance_type, zone) if market == "spot" else None
        if spot is not None:
            return spot
        known = table_usd(instance_type, market)
        if known is None or market != "spot":
            listed = (
                (self.on_demand([instance_type]) or {}).get(instance_type)
                if instance_type
                else None
            )
            known = listed if listed is not None else known
        return known if known is not None else reserved

    def _spot(self, instance_type: str, zone: str) -> float | None:
        if self.ec2 is None or not instance_type or not zone:
            return None
        try:
            answer = self.ec2.describe_spot_price_history(
                InstanceTypes=cast(Any, [instance_type]),  # the stubs list the types of their day
                AvailabilityZone=zone,
                ProductDescriptions=["Linux/UNIX"],
                MaxResults=1,
            )
            history = answer.get("SpotPriceHistory") or ()
            return float(history[0]["SpotPrice"]) if history else None
        except (*aws_errors(), LookupError, TypeError, ValueError) as error:
            self.log.info(
                "the spot price of %s in %s could not be read (%s); the table's is used",
                instance_type,
                zone,
                first_line(error),
            )
            return None
