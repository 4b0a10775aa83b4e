"""Paired returns as the gate sees them: clipped to the declared range, lost episodes against the
candidate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rl_lifecycle.evaluation.bounds import p_mean_at_most_zero

Returns = Sequence[float | None]


@dataclass(frozen=True)
class Crashes:
    """Which episodes of two policies on the same seeds failed. A lost episode is a crash of the
    candidate alone.
    """

    candidate: tuple[bool, ...]
    champion: tuple[bool, ...]
    lost: tuple[bool, ...]

    @classmethod
    def of(cls, candidate: Returns, champion: Returns, crash_below: float) -> "Crashes":
        """Tell crashes by the threshold; only pairs that both have count."""
        n = min(len(candidate), len(champion))
        return cls(
            tuple(value is None or value < crash_below for value in candidate[:n]),
            tuple(value is not None and value < crash_below for value in champion[:n]),
            tuple(a is None or b is None for a, b in zip(candidate[:n], champion[:n], strict=True)),
        )

    def __len__(self) -> int:
        return len(self.candidate)

    def gains(self, n: int, margin: float) -> list[float]:
        """[champion crashed] - [candidate crashed] + margin: positive on average if the guard
        holds.
        """
        return [
            float(theirs) - float(ours) + margin
            for ours, theirs in zip(self.candidate[:n], self.champion[:n], strict=True)
        ]

    def p_guard(self, n: int, margin: float) -> float:
        """Give p of the hypothesis that the candidate crashes more often than the champion by the
        margin or more.
        """
        return p_mean_at_most_zero(self.gains(n, margin), 1 - margin)

    def p_guard_broken(self, n: int, margin: float) -> float:
        """Give p of the hypothesis that it does not."""
        return p_mean_at_most_zero([-gain for gain in self.gains(n, margin)], 1 + margin)

    def p_ceiling(self, n: int, ceiling: float) -> float:
        """Give p of the hypothesis that the candidate crashes more often than the ceiling
        allows.
        """
        return p_mean_at_most_zero(
            [ceiling - float(crashed) for crashed in self.candidate[:n]], 1 - ceiling
        )


class PairedReturns:
    """Returns of two policies on the same seeds, clipped to the declared range.

    :param candidate: None where the episode was lost; it then counts as the lowest return.
    :param champion: None likewise; it then counts as the highest.
    """

    def __init__(
        self, candidate: Returns, champion: Returns, return_range: tuple[float, float]
    ) -> None:
        self.low, self.high = return_range
        n = min(len(candidate), len(champion))
        self.missing = [
            a is None or b is None for a, b in zip(candidate[:n], champion[:n], strict=True)
        ]
        raw = (
            [self.low if value is None else value for value in candidate[:n]],
            [self.high if value is None else value for value in champion[:n]],
        )
        self.candidate, self.champion = (
            [min(max(value, self.low), self.high) for value in values] for values in raw
        )
        self.differences = [a - b for a, b in zip(self.candidate, self.champion, strict=True)]
        self.n_outside = sum(
            not self.low <= value <= self.high for values in raw for value in values
        )

    def __len__(self) -> int:
        return len(self.differences)

    def lost(self, n: int) -> int:
        """How many of the first pairs lack an episode."""
        return sum(self.missing[:n])

    def mean_difference(self, n: int) -> float:
        """Candidate minus champion, over the first pairs."""
        return math.fsum(self.differences[:n]) / n

    def deviation(self, n: int) -> float:
        """Standard deviation of the first differences."""
        return deviation(self.differences[:n])


def deviation(values: Sequence[float]) -> float:
    """Standard deviation of a sample; 0 for a single value."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / max(1, len(values) - 1))
