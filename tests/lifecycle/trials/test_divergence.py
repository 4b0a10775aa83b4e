"""The rule that decides when a training has diverged."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_lifecycle.trials.divergence import LARGEST_PARAMETER, SLACK, find_divergence, largest_error


@given(st.floats(0, 1e9), st.floats(0, 1), st.floats(0, 1), st.floats(0, LARGEST_PARAMETER))
def test_a_plausible_estimate_never_stops_a_training(
    reward: float, gamma: float, share: float, parameter: float
) -> None:
    """The bound is hundreds of times the largest difference that returns can explain."""
    possible = 2 * reward / max(1 - gamma, 1e-6)
    assert (
        find_divergence(
            parameter=parameter, value_error=share * possible, largest_reward=reward, gamma=gamma
        )
        is None
    )
    assert largest_error(reward, gamma) >= SLACK / 2.1 * possible


@pytest.mark.parametrize(
    ("parameter", "error", "message"),
    [
        (1.1e6, None, r"a parameter has grown to 1.1e\+06"),
        (math.inf, 0.0, "a parameter has grown to inf"),
        (1.0, 1e9, r"values are wrong by 1e\+09, with rewards of at most 1"),
        (1.0, math.inf, "values are wrong by inf"),
    ],
)
def test_an_impossible_value_is_named(parameter: float, error: float | None, message: str) -> None:
    """The first value outside its bounds is named."""
    found = find_divergence(parameter=parameter, value_error=error, largest_reward=1.0, gamma=0.99)
    assert found is not None
    assert re.search(message, found)
