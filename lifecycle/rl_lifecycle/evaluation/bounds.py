"""The p-value of the gate: a bound for a mean that needs only the values and the worst case.

It is Gaffke's bound: the posterior probability that a mean is at most zero, when one phantom
observation at the declared worst case is added to the values. It needs no distribution of the
returns, only the declared floor. So a rare crash that was not seen yet cannot lead to a promotion.
The formula without random draws: Varsi (1973), Ali (1973). Its coverage is a conjecture, as far as
we know (Learned-Miller and Thomas, https://arxiv.org/abs/1905.06208). On 0/1 data it equals the
exact binomial test.
"""

from collections.abc import Sequence


def p_mean_at_most_zero(values: Sequence[float], worst: float) -> float:
    """Bound the probability of values like these if their mean were at most zero.

    It is P[sum_i w_i x_i - w_0 worst <= 0] for w uniform on the simplex. It is exact: no draws, no
    seed. It takes one division for each pair of a positive and a negative value, about 0.1 s for
    2,000 values.

    :param values: independent observations, none below `-worst`.
    :param worst: how far below zero an observation can lie; not negative.
    :return: a p-value in [0, 1]; 1.0 when no value is positive.

    >>> values = [0.75] * 30 + [-0.25] * 70
    >>> round(p_mean_at_most_zero(values, 0.25), 10)  # binomtest(30, 100, .25, "greater")
    0.1495410466
    """
    above = [value for value in values if value > 0]
    if not above:
        return 1.0
    below = [-value for value in values if value < 0]  # a zero moves no weight to either side
    below.append(worst)
    share = [0.0] * len(above)
    for fall in below:
        left = 1.0
        share = [
            left := (rise * old + fall * left) / (rise + fall)
            for rise, old in zip(above, share, strict=True)
        ]
    return min(1.0, max(0.0, share[-1]))
