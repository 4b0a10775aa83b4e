"""The table of the prices of everything that a run is billed for besides its machines.

The rows are in `service_prices.json`, with their date, their region and their source. Prices of
machines are in :mod:`rl_lifecycle.machines.instance_types`. A launch asks AWS's price list for its
own region first, and uses this table where there is no answer.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from importlib.resources import files
from typing import Self


@dataclass(frozen=True)
class ServicePrices:
    """US dollars for one unit of each billed thing. Free tiers are not taken into account.

    :param gp3_gib_month: a GiB of an EBS volume for 30 days.
    :param public_ipv4_hour: a public address for an hour.
    :param lambda_gib_s: a GiB of a function's memory for a second, on x86.
    :param lambda_request: one invocation.
    :param lambda_storage_gib_s: a GiB of a function's storage above 0.5 GiB for a second.
    :param s3_write: one PUT, COPY, POST or LIST request.
    :param s3_read: one GET request, or any other.
    :param logs_gib: a GiB of log lines that CloudWatch takes in.
    """

    gp3_gib_month: float
    public_ipv4_hour: float
    lambda_gib_s: float
    lambda_request: float
    lambda_storage_gib_s: float
    s3_write: float
    s3_read: float
    logs_gib: float

    def with_known(self, prices: Mapping[str, float]) -> Self:
        """Replace the prices that are known better."""
        return type(self)(**{**asdict(self), **prices})


@dataclass(frozen=True)
class PriceTable:
    """Prices with their date, their region and their source."""

    as_of: date
    region: str
    source: str
    prices: ServicePrices

    def to_json(self, pages: Mapping[str, str]) -> bytes:
        """Write the table as JSON. :param pages: AWS's page about each price."""
        document = {
            "as_of": self.as_of.isoformat(),
            "region": self.region,
            "source": self.source,
            "prices": asdict(self.prices),
            "pages": dict(pages),
        }
        return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def read_table(data: bytes | str) -> PriceTable:
    """Read a table from JSON."""
    document = json.loads(data)
    return PriceTable(
        as_of=date.fromisoformat(document["as_of"]),
        region=document["region"],
        source=document["source"],
        prices=ServicePrices(**document["prices"]),
    )


_TEXT = files(__package__).joinpath("service_prices.json").read_text()
#: The table of this version of the project.
TABLE = read_table(_TEXT)
#: AWS's page about each price.
PAGES: Mapping[str, str] = json.loads(_TEXT)["pages"]
