"""How long things take: quick for those who wait, or as AWS takes; and now and then a new instance
is not found at first.

EC2's API is eventually consistent:
https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html. Which launches are late
is decided by a seed, so that a night can be repeated.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """Delays in seconds, and the share of launches that are late.

    :param pending_s: from a launch to running.
    :param ending_s: from the end of an instance's processes to terminated, at least.
    :param late_share: of launches whose instance is not found for :attr:`late_s`.
    :param after_error_s: before each asynchronous retry of a function.
    :param after_throttle_s: before the first retry of a throttled event; doubles up to
        :attr:`longest_throttle_s`.
    """

    pending_s: float
    ending_s: float
    late_share: float
    late_s: float
    after_error_s: tuple[float, ...]
    after_throttle_s: float
    longest_throttle_s: float


PACES = {
    "fast": Pace(0.3, 0.2, 0.1, 0.5, (0.5, 1.0), 0.5, 8.0),
    "real": Pace(12.0, 35.0, 0.1, 3.0, (60.0, 120.0), 1.0, 300.0),
    "steady": Pace(0.3, 0.2, 0.0, 0.0, (0.5, 1.0), 0.5, 8.0),
}
"""By the name that `up --pace` takes. `steady` is `fast` without surprises."""


class Lateness:
    """Decides which launches are late: the n-th launch is decided in the same way for the same
    seed.
    """

    def __init__(self, pace: Pace, seed: int) -> None:
        self._pace = pace
        self._random = random.Random(f"{seed}/late")

    def next_s(self) -> float:
        """Return how long the next new instance is not found; 0 for at once.

        >>> several = Lateness(PACES["fast"], 0)
        >>> [n for n in range(40) if several.next_s()]
        [3]
        """
        return self._pace.late_s if self._random.random() < self._pace.late_share else 0.0
