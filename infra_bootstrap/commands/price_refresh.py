"""Write the tables of prices anew, from AWS's price list and spot prices."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import date, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra_bootstrap.errors import BadInputError
from infra_bootstrap.stacks.price_list import (
    PRICES_REGION,
    PRODUCTS,
    read_machine_price,
    read_service_prices,
)
from rl_lifecycle.machines.instance_types import INSTANCE_TYPES, with_prices
from rl_lifecycle.machines.service_prices import PAGES, TABLE, PriceTable

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_pricing import PricingClient

SERVICES_FILE = "service_prices.json"
MACHINES_FILE = "instance_types.json"


def refresh_prices(
    pricing: "PricingClient", ec2: "EC2Client", now: datetime, folder: Path | None = None
) -> dict[str, Any]:
    """Write the tables of prices of the region of `ec2`. Commit them as any other change.

    :param folder: the folder to write to. None means the tables of this checkout.
    :return: region, folder, each price before and now, and the types without a price.
    :raises BadInputError: if the price list lacks a price of a service. Nothing is written then.
    """
    region, today = ec2.meta.region_name, now.date()
    services = _services(pricing, region, today)
    machines = {
        name: (read_machine_price(pricing, region, name), _spot_price(ec2, name, now))
        for name in INSTANCE_TYPES
    }
    source = f"AWS's price list (pricing:GetProducts in {PRICES_REGION}) and spot prices"
    target = folder or Path(str(files("rl_lifecycle.machines")))
    target.mkdir(parents=True, exist_ok=True)
    (target / SERVICES_FILE).write_bytes(services.to_json(PAGES))
    (target / MACHINES_FILE).write_bytes(with_prices(machines, today, region, source))
    return {
        "region": region,
        "as_of": today.isoformat(),
        "folder": str(target),
        "prices": asdict(services.prices) | _on_demand(machines),
        "before": asdict(TABLE.prices) | _on_demand(_machines_before()),
        "without_price": sorted(name for name, both in machines.items() if None in both),
    }


def describe(answer: Mapping[str, Any]) -> str:
    """Describe what changed, one line for each price."""
    lines = [f"{answer['folder']}: prices of {answer['region']} on {answer['as_of']}"]
    for name, price in answer["prices"].items():
        before = answer["before"].get(name)
        was = "unknown" if before is None else f"{before:g}"
        lines.append(f"{name:<22} {price:.12g}" + ("" if price == before else f"  was {was}"))
    if answer["without_price"]:
        lines.append(f"no price in {answer['region']}: {', '.join(answer['without_price'])}")
    return "\n".join(lines)


def _services(pricing: "PricingClient", region: str, today: date) -> PriceTable:
    found = read_service_prices(pricing, region)
    if missing := sorted(PRODUCTS.keys() - found.keys()):
        raise BadInputError(
            f"the price list has no price for {', '.join(missing)} in {region}: the tables stay as "
            "they are; see infra_bootstrap/stacks/price_list.py"
        )
    return PriceTable(
        as_of=today,
        region=region,
        source=f"AWS's price list (pricing:GetProducts in {PRICES_REGION}) for {region}",
        prices=TABLE.prices.with_known(found),
    )


def _spot_price(ec2: "EC2Client", instance_type: str, now: datetime) -> float | None:
    """Return today's spot price of a type in its most expensive zone; None if there is none.

    A period that begins now has the price of each zone that is valid now.
    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSpotPriceHistory.html
    """
    pages = ec2.get_paginator("describe_spot_price_history").paginate(
        # Unlike InstanceTypes, a filter may name a type that the region does not have.
        Filters=[{"Name": "instance-type", "Values": [instance_type]}],
        ProductDescriptions=["Linux/UNIX"],
        StartTime=now,
    )
    prices = [float(entry["SpotPrice"]) for page in pages for entry in page["SpotPriceHistory"]]
    return max(prices, default=None)


def _on_demand(prices: Mapping[str, tuple[float | None, float | None]]) -> dict[str, float | None]:
    return {name: on_demand for name, (on_demand, _) in prices.items() if on_demand is not None}


def _machines_before() -> dict[str, tuple[float | None, float | None]]:
    return {name: (row.on_demand_usd, row.spot_usd) for name, row in INSTANCE_TYPES.items()}
