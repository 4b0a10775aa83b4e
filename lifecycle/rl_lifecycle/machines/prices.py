"""The cost of a machine, and a table of prices for the case that AWS gives none.

The table is :mod:`rl_lifecycle.machines.instance_types`. Its prices are approximate. They are
only used where AWS's own prices could not be read. A reservation uses the on-demand price, because
spot does not cost more. A settlement uses the price of the market. Records say which price they
used.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rl_lifecycle.errors import LaunchRefusedError
from rl_lifecycle.machines.instance_types import INSTANCE_TYPES

#: EC2 bills by the second, but never less than this. https://aws.amazon.com/ec2/pricing/on-demand/
BILLED_AT_LEAST_S = 60.0


class HourlyPrice(NamedTuple):
    """US dollars for one hour of an instance type."""

    on_demand: float
    spot: float


#: The types of :mod:`rl_lifecycle.machines.instance_types` that have a price, in its order.
FALL_BACK: dict[str, HourlyPrice] = {
    row.name: HourlyPrice(row.on_demand_usd, row.spot_usd)
    for row in INSTANCE_TYPES.values()
    if row.on_demand_usd is not None and row.spot_usd is not None
}


def highest_on_demand_usd(
    instance_types: Iterable[str], known: Mapping[str, float] | None = None
) -> float:
    """The highest hourly price among types, which is reserved when any of them may be launched.

    :param known: today's on-demand prices by type, which are used before the table. None means
        that only the table is used.
    :raises LaunchRefusedError: if the price of a type is not known, so that its cost has no limit.

    >>> highest_on_demand_usd(["c6i.large", "m7i.large"])
    0.1008
    """
    prices = []
    for name in instance_types:
        price = (known or {}).get(name) or (
            FALL_BACK[name].on_demand if name in FALL_BACK else None
        )
        if price is None:
            raise LaunchRefusedError(
                f"no price is known for {name}, so its cost cannot be capped: allow "
                "pricing:GetProducts, "
                "or choose compute.instance_types among " + ", ".join(sorted(FALL_BACK))
            )
        prices.append(price)
    if not prices:
        raise LaunchRefusedError("no instance type is left to launch; widen compute.instance_types")
    return max(prices)


def table_usd(instance_type: str, market: str) -> float | None:
    """The hourly price in the table; None if the table has no price for the type."""
    price = FALL_BACK.get(instance_type)
    if price is None:
        return None
    return price.spot if market == "spot" else price.on_demand


def cost_usd(seconds: float, usd_per_hour: float) -> float:
    """The amount that EC2 bills for a machine.

    >>> cost_usd(10, 3.6)  # EC2 bills at least one minute
    0.06
    """
    return max(seconds, BILLED_AT_LEAST_S) * usd_per_hour / 3600
