"""When a training has diverged although its numbers are still finite: bounds that none reaches
which learns anything.

A value is a discounted sum of rewards, so it is at most the largest reward times the discount's
horizon, 1 / (1 - gamma). Estimates that are wrong by a thousand times as much are not on their way
to anything. Adam moves a parameter by about the learning rate a step, so one of a million is
nothing that a learning rate below 1 leads to within a training.
"""

LARGEST_PARAMETER = 1e6
SLACK = 1e3
LONGEST_HORIZON = 1e6


def largest_error(largest_reward: float, gamma: float) -> float:
    """How wrong a value may be before it is divergence.

    :param largest_reward: by its size, of those that were learned from; 1 more is allowed for those
        not seen yet, and for an entropy bonus.

    >>> largest_error(0.0, 0.5), largest_error(9.0, 1.0)
    (2000.0, 10000000000.0)
    """
    horizon = min(LONGEST_HORIZON, 1 / (1 - gamma)) if gamma < 1 else LONGEST_HORIZON
    return SLACK * (1 + largest_reward) * horizon


def find_divergence(
    *, parameter: float, value_error: float | None, largest_reward: float, gamma: float
) -> str | None:
    """Say what has diverged; None if nothing has.

    :param parameter: the largest of the policy's, by its size.
    :param value_error: how wrong the estimated values were in the last update, on average; None:
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
