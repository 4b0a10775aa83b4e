"""The table of EC2 instance types: what we know of each type without a request to AWS.

The rows are in `instance_types.json`, one line for each type. They are in a separate file,
because the local AWS reads them, too, and may not import this package. To add a type, add one row.
Nothing else has to change.

================= ==================================================================================
`name`            EC2's name of the type, such as `c7i.large`.
`vcpus`           How many virtual CPUs it has.
`memory_gib`      Its memory.
`architecture`    EC2's word for the instruction set: `x86_64` or `arm64`.
`processor`       The processor generation. Machines of one generation form one numeric class.
                  If a family has several processors, write the family's name: it is one class.
`quota`           A name in :data:`rl_lifecycle.machines.quotas.QUOTA_CODES`.
                  Null: its quota is not read.
`on_demand_usd`   List price of an hour with Linux in the file's region, and what spot costs there.
`spot_usd`        Null: the price is not known here, so only a price from AWS can be used.
`gpu`             Its GPUs, all of one model; left out where there are none.
`auto`            True where `compute.instance_types: auto` may choose the type. Such a type has two
                  vCPUs, AVX-512 and no GPU; :mod:`rl_lifecycle.machines.auto_types` says why.
`preflight`       True where `preflight` reports on the type, and a new network prefers the zones
                  that offer it.
================= ==================================================================================

Vcpus, memory, architecture and GPUs are those of https://aws.amazon.com/ec2/instance-types/.
The file says where its prices come from, and when. `python -m infra_bootstrap prices` writes them
anew from AWS's price list and spot prices. The prices in the project's own file are approximate.
Compare them with https://aws.amazon.com/ec2/pricing/on-demand/.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Gpu:
    """The GPUs of a type, in EC2's words.

    :param memory_gib: memory of each GPU.
    """

    manufacturer: str
    model: str
    count: int
    memory_gib: int


@dataclass(frozen=True)
class InstanceType:
    """One row of the table. The docstring of the module explains each column."""

    name: str
    vcpus: int
    memory_gib: float
    architecture: str
    processor: str
    quota: str | None
    on_demand_usd: float | None
    spot_usd: float | None
    gpu: Gpu | None = None
    auto: bool = False
    preflight: bool = False

    @property
    def family(self) -> str:
        """The part of the name before the dot.

        >>> INSTANCE_TYPES["c7i.large"].family
        'c7i'
        """
        return self.name.partition(".")[0]


_DOCUMENT = json.loads(files(__package__).joinpath("instance_types.json").read_text())


def read_rows() -> list[InstanceType]:
    """Read every row, in the file's order."""
    return [_read_row(row) for row in _DOCUMENT["types"]]


def _read_row(row: Mapping[str, Any]) -> InstanceType:
    gpu = row.get("gpu")
    return InstanceType(**{**row, "gpu": Gpu(**gpu) if gpu else None})


def with_prices(
    prices: Mapping[str, tuple[float | None, float | None]], as_of: date, region: str, source: str
) -> bytes:
    """Write the file with other prices.

    :param prices: on-demand and spot price of each type, US dollars per hour. A type gets null
        prices unless both are known.
    :param source: where the prices come from.
    """
    lines = [
        json.dumps({**row, "on_demand_usd": on_demand, "spot_usd": spot})
        for row in _DOCUMENT["types"]
        for on_demand, spot in [_both(prices[row["name"]])]
    ]
    head = {"as_of": as_of.isoformat(), "region": region, "source": source}
    opening = "".join(f"  {json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items())
    rows = ",\n".join(f"    {line}" for line in lines)
    return f'{{\n{opening}  "types": [\n{rows}\n  ]\n}}\n'.encode()


def _both(
    prices: tuple[float | None, float | None],
) -> tuple[float | None, float | None]:
    return prices if None not in prices else (None, None)


#: The date of the prices.
AS_OF = date.fromisoformat(_DOCUMENT["as_of"])
#: The region of the prices.
PRICED_REGION = str(_DOCUMENT["region"])
#: Every row by name, in the file's order.
INSTANCE_TYPES: Mapping[str, InstanceType] = {row.name: row for row in read_rows()}
