"""What a machine costs: a dated table to fall back on, and sums. Prices of the day are the caller's to look up.

The table is approximate: list prices of us-east-1, Linux, written down on :data:`AS_OF` from general knowledge and not
fetched from AWS, with spot at about two fifths. It is only used where AWS's own prices could not be read: to reserve (the
on-demand one, which spot does not exceed) and to settle; records say which price they used. Compare with
https://aws.amazon.com/ec2/pricing/on-demand/.
"""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import NamedTuple

from rl_lifecycle.errors import LaunchRefusedError

#: When the table was written down.
AS_OF = date(2026, 11, 22)
#: EC2 bills by the second, but never less than this. https://aws.amazon.com/ec2/pricing/on-demand/
BILLED_AT_LEAST_S = 60.0


class HourlyPrice(NamedTuple):
    """US dollars for one hour of an instance type."""

    on_demand: float
    spot: float


#: The types that `instance_types: auto` means, and common larger ones.
FALL_BACK: dict[str, HourlyPrice] = {
    "c7i.large": HourlyPrice(0.08925, 0.0360),
    "c7i.xlarge": HourlyPrice(0.1785, 0.0710),
    "c7i.2xlarge": HourlyPrice(0.3570, 0.1430),
    "c7i.4xlarge": HourlyPrice(0.7140, 0.2860),
    "c7a.large": HourlyPrice(0.10264, 0.0400),
    "c7a.xlarge": HourlyPrice(0.20528, 0.0800),
    "c7a.2xlarge": HourlyPrice(0.41056, 0.1600),
    "c6i.large": HourlyPrice(0.0850, 0.0340),
    "c6i.xlarge": HourlyPrice(0.1700, 0.0680),
    "c6i.2xlarge": HourlyPrice(0.3400, 0.1360),
    "c6a.large": HourlyPrice(0.0765, 0.0310),
    "c6a.xlarge": HourlyPrice(0.1530, 0.0610),
    "m7i.large": HourlyPrice(0.1008, 0.0390),
    "m7i.xlarge": HourlyPrice(0.2016, 0.0790),
    "m6i.large": HourlyPrice(0.0960, 0.0380),
    "m6i.xlarge": HourlyPrice(0.1920, 0.0770),
    "m5.large": HourlyPrice(0.0960, 0.0380),
    "c5.large": HourlyPrice(0.0850, 0.0340),
    "t3.medium": HourlyPrice(0.0416, 0.0150),
    "t3.large": HourlyPrice(0.0832, 0.0300),
    "g4dn.xlarge": HourlyPrice(0.5260, 0.2100),
    "g5.xlarge": HourlyPrice(1.0060, 0.4300),
    "g5.2xlarge": HourlyPrice(1.2120, 0.5200),
    "g6.xlarge": HourlyPrice(0.8048, 0.3400),
}


def highest_on_demand_usd(
    instance_types: Iterable[str], known: Mapping[str, float] | None = None
) -> float:
    """The dearest of the types by the hour: what must be reserved when any of them may be launched.

    :param known: on-demand prices of the day by type, used before the table; None: the table alone.
    :raises LaunchRefusedError: if a type's price is not known, because its cost could not be capped.

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
                f"no price is known for {name}, so its cost cannot be capped: allow pricing:GetProducts, "
                "or choose compute.instance_types among " + ", ".join(sorted(FALL_BACK))
            )
        prices.append(price)
    if not prices:
        raise LaunchRefusedError("no instance type is left to launch; widen compute.instance_types")
    return max(prices)


def table_usd(instance_type: str, market: str) -> float | None:
    """The table's price of an hour; None if the type is not in it."""
    price = FALL_BACK.get(instance_type)
    if price is None:
        return None
    return price.spot if market == "spot" else price.on_demand


def cost_usd(seconds: float, usd_per_hour: float) -> float:
    """What a machine that ran for so long is billed.

    >>> cost_usd(10, 3.6)  # a minute is the least
    0.06
    """
    return max(seconds, BILLED_AT_LEAST_S) * usd_per_hour / 3600
