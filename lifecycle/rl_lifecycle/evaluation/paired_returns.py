"""Paired returns for the gate.

Returns are clipped to the declared range. Lost episodes count against the candidate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rl_lifecycle.evaluation.bounds import p_mean_at_most_zero

Returns = Sequence[float | None]


@dataclass(frozen=True)
class Crashes:
    """The crashes of two policies on the same seeds.

    A lost episode counts as a crash of the candidate only.
    """

    candidate: tuple[bool, ...]
    champion: tuple[bool, ...]
    lost: tuple[bool, ...]

    @classmethod
    def of(cls, candidate: Returns, champion: Returns, crash_below: float) -> "Crashes":
        """Find the crashes by the threshold. Only seeds that both policies have played count."""
        n = min(len(candidate), len(champion))
        return cls(
            tuple(value is None or value < crash_below for value in candidate[:n]),
            tuple(value is not None and value < crash_below for value in champion[:n]),
            tuple(a is None or b is None for a, b in zip(candidate[:n], champion[:n], strict=True)),
        )

    def __len__(self) -> int:
        return len(self.candidate)

    def gains(self, n: int, margin: float) -> list[float]:
        """For each pair: [champion crashed] - [candidate crashed] + margin.

        Their mean is positive if the guard holds.
        """
        return [
            float(theirs) - float(ours) + margin
            for ours, theirs in zip(self.candidate[:n], self.champion[:n], strict=True)
        ]

    def p_guard(self, n: int, margin: float) -> float:
        """The p-value of: the candidate crashes more often than the champion, by the margin or
        more.
        """
        return p_mean_at_most_zero(self.gains(n, margin), 1 - margin)

    def p_guard_broken(self, n: int, margin: float) -> float:
        """The p-value of: the candidate does not crash more often by the margin or more."""
        return p_mean_at_most_zero([-gain for gain in self.gains(n, margin)], 1 + margin)

    def p_ceiling(self, n: int, ceiling: float) -> float:
        """The p-value of: the candidate crashes more often than the ceiling allows."""
        return p_mean_at_most_zero(
            [ceiling - float(crashed) for crashed in self.candidate[:n]], 1 - ceiling
        )


class PairedReturns:
    """Returns of two policies on the same seeds, clipped to the declared range.

    :param candidate: None for a lost episode, which then counts as the lowest return.
    :param champion: None for a lost episode, which then counts as the highest return.
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
        """How many of the first n pairs have a lost episode."""
        return sum(self.missing[:n])

    def mean_difference(self, n: int) -> float:
        """The mean of candidate minus champion over the first n pairs."""
        return math.fsum(self.differences[:n]) / n

    def deviation(self, n: int) -> float:
        """The standard deviation of the first n differences."""
        return deviation(self.differences[:n])


def deviation(values: Sequence[float]) -> float:
    """The standard deviation of a sample; 0 for a single value."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / max(1, len(values) - 1))
