"""The types of `compute.instance_types: auto`: those on which a dollar buys the most steps.

A trainer computes on one thread. Two vCPUs (one trains, one writes checkpoints) are enough for its
full speed, and more vCPUs only make a step dearer. Speeds were measured on one processor with
AVX-512 (docs/trainer.md, "Steps per dollar"). Families with AVX-512 count as equally fast until
each is measured. Other families and GPUs were not measured and are never chosen. The column `auto`
of :mod:`rl_lifecycle.machines.instance_types` marks the types that follow from this. Types that
cost a little more than the cheapest are kept, because each type in each zone is a spot pool of its
own.
"""

from collections.abc import Mapping

from rl_lifecycle.machines.instance_types import INSTANCE_TYPES
from rl_lifecycle.machines.prices import FALL_BACK, HourlyPrice

#: A type may cost this many times the cheapest on-demand price.
SPREAD = 1.25


def steps_per_usd(steps_per_s: float, usd_per_hour: float) -> float:
    """How many environment steps a dollar buys.

    >>> steps_per_usd(10_000, 0.10)
    360000000.0
    """
    return steps_per_s * 3600 / usd_per_hour


def plan_auto_types(prices: Mapping[str, HourlyPrice]) -> tuple[str, ...]:
    """Choose the cheap types among those with a price and `auto` in the table, cheapest first.

    >>> plan_auto_types({"c7i.large": HourlyPrice(0.09, 0.04), "c6i.large": HourlyPrice(0.08, 0.03),
    ...                  "c7a.large": HourlyPrice(0.2, 0.1), "g5.xlarge": HourlyPrice(0.01, 0.01)})
    ('c6i.large', 'c7i.large')
    """
    measured = {
        name: price.on_demand
        for name, price in prices.items()
        if name in INSTANCE_TYPES and INSTANCE_TYPES[name].auto
    }
    most = SPREAD * min(measured.values())
    return tuple(
        sorted(
            (name for name, usd in measured.items() if usd <= most),
            key=lambda name: (measured[name], name),
        )
    )


AUTO_TYPES = plan_auto_types(FALL_BACK)
