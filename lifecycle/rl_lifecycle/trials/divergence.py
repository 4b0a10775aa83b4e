"""Bounds beyond which a training has diverged, although its numbers are still finite.

A value is a discounted sum of rewards, so it is at most the largest reward times the discount's
horizon, 1 / (1 - gamma). An estimate that is wrong by a thousand times as much does not learn. Adam
moves a parameter by about the learning rate in each step, so with a learning rate below 1 no
training reaches a parameter of a million.
"""

LARGEST_PARAMETER = 1e6
SLACK = 1e3
LONGEST_HORIZON = 1e6


def largest_error(largest_reward: float, gamma: float) -> float:
    """The largest error of a value that is not yet divergence.

    :param largest_reward: the largest absolute reward so far. 1 is added for rewards that were not
        seen yet and for an entropy bonus.

    >>> largest_error(0.0, 0.5), largest_error(9.0, 1.0)
    (2000.0, 10000000000.0)
    """
    horizon = min(LONGEST_HORIZON, 1 / (1 - gamma)) if gamma < 1 else LONGEST_HORIZON
    return SLACK * (1 + largest_reward) * horizon


def find_divergence(
    *, parameter: float, value_error: float | None, largest_reward: float, gamma: float
) -> str | None:
    """Describe the divergence. The result is None if nothing has diverged.

    :param parameter: the largest absolute parameter of the policy.
    :param value_error: the mean error of the estimated values in the last update. It is None if
        nothing estimates values.

    >>> find_divergence(parameter=3.0, value_error=40.0, largest_reward=1.0, gamma=0.99)
    >>> find_divergence(parameter=3.0, value_error=4e5, largest_reward=1.0, gamma=0.99)
    'values are wrong by 4e+05, with rewards of at most 1 (2e+05 is the bound)'
    """
    if parameter > LARGEST_PARAMETER:
        return f"a parameter has grown to {parameter:.3g} ({LARGEST_PARAMETER:.0e} is the bound)"
    bound = largest_error(largest_reward, gamma)
    if value_error is not None and value_error > bound:
        return (
            f"values are wrong by {value_error:.3g}, with rewards of at most "
            f"{largest_reward:.3g} ({bound:.3g} is the bound)"
        )
    return None
