"""`instance_types: auto` is derived from prices, and from what was measured."""

import pytest

from rl_lifecycle.auto_types import AUTO_TYPES, AVX_512, SPREAD, plan_auto_types, steps_per_usd
from rl_lifecycle.prices import FALL_BACK, HourlyPrice


def test_auto_means_what_the_dated_prices_say() -> None:
    """Two virtual CPUs, AVX-512, the cheapest first; no GPU, no burstable type, no larger size."""
    assert plan_auto_types(FALL_BACK) == AUTO_TYPES
    assert AUTO_TYPES == ("c6i.large", "c7i.large", "m6i.large", "m7i.large", "c7a.large")
    prices = [FALL_BACK[name].on_demand for name in AUTO_TYPES]
    assert prices == sorted(prices)
    assert prices[-1] <= SPREAD * prices[0]


def test_auto_follows_the_prices() -> None:
    """A type that becomes dear drops out; one that was never measured does not come in, however cheap it is."""
    changed = dict(FALL_BACK) | {
        "c7a.large": HourlyPrice(0.2, 0.1),
        "g5.xlarge": HourlyPrice(0.01, 0.01),
    }
    assert "c7a.large" not in plan_auto_types(changed)
    assert not any(name.startswith("g5") for name in plan_auto_types(changed))
    assert {name.split(".")[0] for name in plan_auto_types(changed)} <= set(AVX_512)


def test_a_larger_size_buys_fewer_steps() -> None:
    """The trainer has one thread, so the price alone changes."""
    small, large = (
        steps_per_usd(10_000, FALL_BACK[name].on_demand) for name in ("c7i.large", "c7i.xlarge")
    )
    assert small == pytest.approx(2 * large)
