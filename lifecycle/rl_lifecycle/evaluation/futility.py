"""The rule that ends the looks early when a promotion has become hopeless. The champion stays.

The rule is only applied at a look that does not decide to promote or to keep. So it never changes
such a decision. It never promotes, so it spends no alpha. It may reduce the power of the gate. It
stops the looks only in one case: the planned pairs would be too few even if the true difference
were two standard errors better than the observed one.
"""

import math
from collections.abc import Sequence

from rl_lifecycle.evaluation.paired_returns import Crashes, PairedReturns, deviation

#: How many standard errors the true value may be better than the observed one.
HOPE = 2.0


def pairs_needed(hoped: float, spread: float, width: float) -> float:
    """Estimate how many pairs show that a mean is positive: 3 R/δ + (1.65 σ/δ)².

    The first part comes from the phantom worst case. The second part is the usual one of a test.

    :param hoped: δ, the assumed mean.
    :param spread: σ, the standard deviation.
    :param width: R, how far below zero one value can lie.

    >>> round(pairs_needed(5.67, 25.9, 520))
    332
    """
    return math.inf if hoped <= 0 else 3 * width / hoped + (1.65 * spread / hoped) ** 2


def why_futile(
    pairs: PairedReturns, crashes: Crashes, n: int, last: int, *, margin: float, crash_margin: float
) -> str:
    """Explain why more pairs after the first `n` are hopeless. The text is empty if they are not.

    :param last: pairs at the last look.
    """
    if n >= last:
        return ""
    if margin >= 0 and not any(pairs.differences[:n]):
        return f"all {n} pairs are ties: there is nothing to tell apart"
    gains = [difference - margin for difference in pairs.differences[:n]]
    if _hopeless(gains, pairs.high - pairs.low + margin, last):
        return (
            f"the mean difference of {pairs.mean_difference(n):+.3g} seen in {n} pairs is so "
            "small, or so far below, that "
            f"even two standard errors more could not be shown within {last} pairs"
        )
    if _hopeless(crashes.gains(n, crash_margin), 1 - crash_margin, last):
        return (
            f"after {sum(crashes.candidate[:n])} crashes against {sum(crashes.champion[:n])} in "
            f"{n} pairs, it could not be "
            f"shown within {last} that the candidate crashes no more often: that needs more pairs "
            "or a wider crash_margin "
            f"than {crash_margin:g}"
        )
    return ""


def _hopeless(gains: Sequence[float], width: float, last: int) -> bool:
    spread = deviation(gains)
    hoped = math.fsum(gains) / len(gains) + HOPE * spread / math.sqrt(len(gains))
    return pairs_needed(hoped, spread, width) > last
