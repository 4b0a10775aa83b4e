"""How long AWS's background work takes here, and how long its answers lag behind.

EC2's API is eventually consistent, so every launch is followed by a short time in which calls do
not find the new instance: https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html.
AWS publishes no figure for that time. The ranges below are ours. A seed draws from them, so that
you can repeat a night.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Pace:
    """The delays of one pace in seconds.

    :param pending_s: time from a launch to state running.
    :param ending_s: shortest time from the end of an instance's processes to state terminated.
    :param unseen_s: the shortest and the longest time for which calls do not find a new instance.
    :param console_s: how long after an instance's end its console is posted.
    :param still_named_s: for how long the tagging service names a resource that was deleted.
    :param after_error_s: waiting times before the asynchronous retries of a function, in order.
    :param after_throttle_s: waiting time before the first retry of a throttled event. It doubles
        with each retry, up to :attr:`longest_throttle_s`.
    """

    pending_s: float
    ending_s: float
    unseen_s: tuple[float, float]
    console_s: float
    still_named_s: float
    after_error_s: tuple[float, ...]
    after_throttle_s: float
    longest_throttle_s: float


PACES = {
    "fast": Pace(0.3, 0.2, (0.3, 2.0), 3.0, 5.0, (0.5, 1.0), 0.5, 8.0),
    "real": Pace(12.0, 35.0, (1.0, 6.0), 120.0, 300.0, (60.0, 120.0), 1.0, 300.0),
    "steady": Pace(0.3, 0.2, (0.0, 0.0), 0.0, 0.0, (0.5, 1.0), 0.5, 8.0),
}
"""The paces by the name that `up --pace` takes. `steady` is `fast` without any lag."""


class Lag(NamedTuple):
    """For how many seconds calls do not find a new instance.

    The calls that name the instance by its id and those that look for it by filters, such as tags,
    read different copies of EC2's data. So either of them may find the instance first.
    """

    by_id_s: float
    by_filter_s: float


class Lags:
    """Draws the lag of each launch. The same seed draws the same lag for the n-th launch."""

    def __init__(self, pace: Pace, seed: int) -> None:
        self._range = pace.unseen_s
        self._random = random.Random(f"{seed}/lag")

    def draw(self) -> Lag:
        """Return the lag of the next launch.

        >>> Lags(PACES["fast"], 0).draw() == Lags(PACES["fast"], 0).draw()
        True
        >>> Lags(PACES["steady"], 0).draw()
        Lag(by_id_s=0.0, by_filter_s=0.0)
        """
        return Lag(self._random.uniform(*self._range), self._random.uniform(*self._range))
