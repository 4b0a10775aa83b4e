"""How long AWS's background work takes here, and which new instances are not found at first.

EC2's API is eventually consistent:
https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html. A seed decides which
launches are late, so that you can repeat a night.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """The delays of one pace in seconds, and the share of launches that are late.

    :param pending_s: time from a launch to state running.
    :param ending_s: shortest time from the end of an instance's processes to state terminated.
    :param late_share: share of launches whose instance is not found for :attr:`late_s`.
    :param after_error_s: waiting times before the asynchronous retries of a function, in order.
    :param after_throttle_s: waiting time before the first retry of a throttled event. It doubles
        with each retry, up to :attr:`longest_throttle_s`.
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
"""The paces by the name that `up --pace` takes. `steady` is `fast` without late launches."""


class Lateness:
    """Decides which launches are late. The same seed decides the n-th launch in the same way."""

    def __init__(self, pace: Pace, seed: int) -> None:
        self._pace = pace
        self._random = random.Random(f"{seed}/late")

    def next_s(self) -> float:
        """Return for how many seconds the next new instance is not found; 0 if it is found at once.

        >>> several = Lateness(PACES["fast"], 0)
        >>> [n for n in range(40) if several.next_s()]
        [3]
        """
        return self._pace.late_s if self._random.random() < self._pace.late_share else 0.0
