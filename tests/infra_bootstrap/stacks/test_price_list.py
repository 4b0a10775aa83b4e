"""Prices come from AWS's price list, and one command writes them into the table."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra_bootstrap.commands.price_refresh import describe, refresh_prices
from infra_bootstrap.errors import BadInputError
from infra_bootstrap.stacks.price_list import PRODUCTS, read_service_prices
from local_aws.ec2.catalog import CATALOG
from rl_airflow.machines.market_prices import MarketPrices
from rl_lifecycle.machines.instance_types import INSTANCE_TYPES
from rl_lifecycle.machines.service_prices import PAGES, TABLE, read_table
from tests.infra_bootstrap.accounts import Deployment

NOW = datetime(2027, 1, 2, tzinfo=UTC)
#: The local AWS's prices of eu-west-1, whose products look like AWS's.
EU = {
    "gp3_gib_month": 0.088,
    "public_ipv4_hour": 0.005,
    "lambda_gib_s": 0.0000166667,
    "lambda_request": 0.0000002,
    "lambda_storage_gib_s": 0.000000034,
    "s3_write": 0.000005,
    "s3_read": 0.0000004,
    "logs_gib": 0.57,
}


def test_the_command_writes_the_table_of_a_region(dev: Deployment, tmp_path: Path) -> None:
    """It has the region's prices, today's date and its source, and the package can read it."""
    done = dev.account.cli("prices", "--output", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    path = tmp_path / "service_prices.json"
    table = read_table(path.read_bytes())
    assert table.region == dev.account.region == answer["region"]
    assert table.as_of.isoformat() == answer["as_of"]
    assert "pricing:GetProducts" in table.source
    assert asdict(table.prices) == pytest.approx(EU)
    assert answer["prices"].items() >= asdict(table.prices).items()
    assert json.loads(path.read_text())["pages"] == PAGES


def test_the_command_writes_the_prices_of_machines(dev: Deployment, tmp_path: Path) -> None:
    """Each type of the table has the region's on-demand price and its highest spot price.

    A type that the region does not sell has none, so nothing can be reserved with a stale price.
    """
    assert dev.account.cli("prices", "--output", str(tmp_path)).returncode == 0
    document = json.loads((tmp_path / "instance_types.json").read_text())
    assert document["region"] == dev.account.region
    assert document["as_of"] == f"{datetime.now(UTC):%Y-%m-%d}"
    rows = {row["name"]: row for row in document["types"]}
    assert list(rows) == list(INSTANCE_TYPES)
    ec2 = dev.as_role("administrator").ec2
    history = ec2.describe_spot_price_history(
        InstanceTypes=["c7i.large"], StartTime=datetime.now(UTC)
    )["SpotPriceHistory"]
    assert rows["c7i.large"]["spot_usd"] == max(float(entry["SpotPrice"]) for entry in history)
    assert {name for name, row in rows.items() if row["on_demand_usd"]} >= rows.keys() & CATALOG
    assert rows["m7a.large"] | {"on_demand_usd": None, "spot_usd": None} == rows["m7a.large"]
    assert rows["c7i.large"]["on_demand_usd"] == CATALOG["c7i.large"].on_demand_usd


def test_a_launch_uses_the_prices_of_its_region(dev: Deployment) -> None:
    """The launcher may read the price list; without an answer the table's prices are used."""
    launcher = dev.as_role("launcher")
    log = logging.getLogger("test")
    found = MarketPrices(launcher.ec2, log, lambda: launcher.client("pricing", "us-east-1"))
    assert asdict(found.services()) == pytest.approx(EU)
    trainer = dev.as_role("trainer")
    refused = MarketPrices(trainer.ec2, log, lambda: trainer.client("pricing", "us-east-1"))
    assert refused.services() == TABLE.prices


def test_each_price_of_the_table_is_looked_up() -> None:
    """A new price needs its place in the price list."""
    assert PRODUCTS.keys() == asdict(TABLE.prices).keys()


class FakePricing:
    """A price list whose every product has one price.

    :param usd: the price by usage type; a missing one has no product.
    """

    def __init__(self, usd: dict[str, float]) -> None:
        self.usd = usd

    def get_paginator(self, _name: str) -> FakePricing:
        """Return the pages."""
        return self

    def paginate(self, **_request: Any) -> list[dict[str, Any]]:
        """Return all products, whatever is asked for."""
        return [{"PriceList": [json.dumps(product(*item)) for item in self.usd.items()]}]


class FakeSpot(FakePricing):
    """An EC2 of eu-central-1 that has no spot prices."""

    meta = SimpleNamespace(region_name="eu-central-1")

    def __init__(self) -> None:
        super().__init__({})

    def paginate(self, **_request: Any) -> list[dict[str, Any]]:
        """Return one empty page."""
        return [{"SpotPriceHistory": []}]


def product(usage: str, usd: float) -> dict[str, Any]:
    """Build a product."""
    prices = {"1": {"unit": "?", "pricePerUnit": {"USD": str(usd)}}}
    return {
        "product": {"attributes": {"usagetype": f"EUC1-{usage}"}},
        "terms": {"OnDemand": {"1": {"priceDimensions": prices}}},
    }


def listed() -> dict[str, float]:
    """Return the table's prices by usage type."""
    return {PRODUCTS[name].usage: usd for name, usd in asdict(TABLE.prices).items()}


def test_a_price_of_another_unit_is_not_believed() -> None:
    """A price for a thousand requests would be read as the price of one."""
    usd = listed() | {"Requests-Tier1": 0.005}
    found = read_service_prices(FakePricing(usd), "eu-central-1")  # type: ignore[arg-type]
    assert PRODUCTS.keys() - found.keys() == {"s3_write"}


def test_a_table_with_a_hole_is_not_written(tmp_path: Path) -> None:
    """The command says which price is missing, and leaves the files as they are."""
    usd = listed()
    del usd["EBS:VolumeUsage.gp3"]
    with pytest.raises(BadInputError, match="no price for gp3_gib_month in eu-central-1"):
        refresh_prices(FakePricing(usd), FakeSpot(), NOW, tmp_path / "tables")  # type: ignore[arg-type]
    assert not (tmp_path / "tables").exists()


def test_what_changed_is_said(tmp_path: Path) -> None:
    """A person sees each price, and the one before if it differs."""
    usd = listed() | {"EBS:VolumeUsage.gp3": 0.095}
    answer = refresh_prices(FakePricing(usd), FakeSpot(), NOW, tmp_path)  # type: ignore[arg-type]
    text = describe(answer)
    assert "prices of eu-central-1 on 2027-01-02" in text
    assert re_line(text, "gp3_gib_month") == "gp3_gib_month 0.095 was 0.08"
    assert re_line(text, "s3_write") == "s3_write 5e-06"


def re_line(text: str, name: str) -> str:
    """Return the line of a price, with single spaces."""
    return next(" ".join(line.split()) for line in text.splitlines() if line.startswith(name))
