"""`instance_types: auto` follows from prices and measurements."""

import pytest

from rl_lifecycle.machines.auto_types import AUTO_TYPES, SPREAD, plan_auto_types, steps_per_usd
from rl_lifecycle.machines.instance_types import INSTANCE_TYPES
from rl_lifecycle.machines.prices import FALL_BACK, HourlyPrice


def test_auto_means_what_the_dated_prices_say() -> None:
    """`auto` means types with two vCPUs and AVX-512, the cheapest first, no GPU and no burstable
    type.
    """
    assert plan_auto_types(FALL_BACK) == AUTO_TYPES
    assert len(AUTO_TYPES) >= 5
    prices = [FALL_BACK[name].on_demand for name in AUTO_TYPES]
    assert prices == sorted(prices)
    assert prices[-1] <= SPREAD * prices[0]


def test_auto_means_the_types_at_most_a_quarter_dearer_than_the_cheapest() -> None:
    """`auto` means the types at most 25 % above the cheapest, by the prices of 2026-11-22."""
    prices = {
        "c6a.large": 0.0765,
        "c6i.large": 0.0850,
        "c7a.large": 0.10264,
        "c7i.large": 0.08925,
        "c7i.xlarge": 0.1785,
        "g4dn.xlarge": 0.5260,
        "m6i.large": 0.0960,
        "m7i.large": 0.1008,
        "t3.medium": 0.0416,
    }
    assert plan_auto_types({name: HourlyPrice(usd, usd / 2) for name, usd in prices.items()}) == (
        "c6i.large",
        "c7i.large",
        "m6i.large",
        "m7i.large",
        "c7a.large",
    )


def test_auto_follows_the_prices() -> None:
    """An expensive type is dropped; a cheap type that was not measured is not added."""
    changed = dict(FALL_BACK) | {
        "c7a.large": HourlyPrice(0.2, 0.1),
        "g5.xlarge": HourlyPrice(0.01, 0.01),
    }
    assert "c7a.large" not in plan_auto_types(changed)
    assert not any(name.startswith("g5") for name in plan_auto_types(changed))
    assert all(INSTANCE_TYPES[name].auto for name in plan_auto_types(changed))


def test_a_larger_size_buys_fewer_steps() -> None:
    """The trainer has one thread, so a larger size costs more for the same speed."""
    small, large = (
        steps_per_usd(10_000, FALL_BACK[name].on_demand) for name in ("c7i.large", "c7i.xlarge")
    )
    assert small == pytest.approx(2 * large)
