"""Write the tables of prices anew, from AWS's price list."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra_bootstrap.errors import BadInputError
from infra_bootstrap.stacks.price_list import PRICES_REGION, PRODUCTS, read_service_prices
from rl_lifecycle.machines.service_prices import PAGES, TABLE, PriceTable

if TYPE_CHECKING:
    from mypy_boto3_pricing import PricingClient

FILE = "service_prices.json"


def refresh_prices(
    pricing: "PricingClient", region: str, today: date, path: Path | None = None
) -> dict[str, Any]:
    """Write the table of prices of a region. Commit it as any other change.

    :param path: the file to write. None means the table of this checkout.
    :return: region, file, and each price before and now.
    :raises BadInputError: if the price list lacks a price of the table.
    """
    found = read_service_prices(pricing, region)
    if missing := sorted(PRODUCTS.keys() - found.keys()):
        raise BadInputError(
            f"the price list has no price for {', '.join(missing)} in {region}: the table stays as "
            "it is; see infra_bootstrap/stacks/price_list.py"
        )
    table = PriceTable(
        as_of=today,
        region=region,
        source=f"AWS's price list (pricing:GetProducts in {PRICES_REGION}) for {region}",
        prices=TABLE.prices.with_known(found),
    )
    target = path or Path(str(files("rl_lifecycle.machines").joinpath(FILE)))
    target.write_bytes(table.to_json(PAGES))
    return {
        "region": region,
        "as_of": today.isoformat(),
        "file": str(target),
        "prices": asdict(table.prices),
        "before": asdict(TABLE.prices),
    }


def describe(answer: Mapping[str, Any]) -> str:
    """Describe what changed, one line for each price."""
    lines = [f"{answer['file']}: prices of {answer['region']} on {answer['as_of']}"]
    for name, price in answer["prices"].items():
        before = answer["before"][name]
        lines.append(f"{name:<22} {price:.12g}" + ("" if price == before else f"  was {before:g}"))
    return "\n".join(lines)
