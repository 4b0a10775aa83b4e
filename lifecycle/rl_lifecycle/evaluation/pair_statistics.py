"""Statistics of an evaluation beside the verdict: means, tails, crashes, the worst seeds.

Only the bound of the gate decides. The other numbers help a person to understand the decision.
"""

import hashlib
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Self

from pydantic import Field

from rl_lifecycle.evaluation.bounds import p_mean_at_most_zero
from rl_lifecycle.evaluation.paired_returns import PairedReturns, Returns, deviation
from rl_lifecycle.evaluation.requests import Shard
from rl_lifecycle.evaluation.verdicts import Gate, Verdict
from rl_lifecycle.records.record import Record

#: With differences more skewed than this, usual tests promote falsely.
SKEW_WARNING = -2.0
#: The share of the returns whose mean is CVaR10.
TAIL = 0.1
N_WORST = 5


class PolicyStatistics(Record):
    """The episodes of one policy, unpaired.

    Means leave out lost episodes. A lost episode counts as a crash of the candidate.
    """

    n: int
    lost: int
    mean: float | None
    deviation: float | None
    cvar10: float | None = Field(description="mean of the worst tenth of the returns")
    lowest: float | None
    crashes: int


class WorstPair(Record):
    """One of the seeds on which the candidate did worst compared with the champion. Without a
    champion it is one of the seeds with the worst returns.
    """

    seed: int
    candidate: float | None
    champion: float | None
    difference: float


class PairStatistics(Record):
    """The statistics of the pairs of the last look."""

    n: int
    candidate: PolicyStatistics
    champion: PolicyStatistics | None
    mean_difference: float
    lower_bound: float = Field(description="the gate's own bound at the alpha of the last look")
    bound_alpha: float
    asymptotic_low: float = Field(
        description="BCa interval at 90 %, in its analytic form; asymptotic, decides nothing"
    )
    asymptotic_high: float
    ties: float
    variance_ratio: float | None = Field(
        description="variance of the difference over the sum of both; below 1: pairing helps"
    )
    skew: float
    clipped_share: float
    worst: tuple[WorstPair, ...]
    seeds_sha256: str = Field(description="of the seeds, as decimal numbers joined by commas")
    warnings: tuple[str, ...] = ()

    def with_warnings(self, warnings: tuple[str, ...]) -> Self:
        """Replace the warnings."""
        return self.model_copy(update={"warnings": warnings})


def describe_pairs(
    candidate: Shard, champion: Shard | None, gate: Gate, verdict: Verdict, bar: float | None = None
) -> PairStatistics | None:
    """Describe the pairs that the verdict's last look used.

    :param champion: None for a first champion, which is compared with the bar.
    :param bar: the mean return that a first champion must exceed. None means the floor.
    :return: None if no look was taken or there are no episodes.
    """
    n = verdict.looks[-1].n if verdict.looks else min(verdict.n_pairs, len(candidate.returns))
    if n == 0:
        return None
    level = gate.return_range[0] if bar is None else bar
    theirs: Returns = [level] * n if champion is None else champion.returns[:n]
    pairs = PairedReturns(candidate.returns[:n], theirs, gate.return_range)
    alpha = verdict.looks[-1].alpha if verdict.looks else gate.alpha
    phantom = level - pairs.low if champion is None else pairs.high - pairs.low
    low, high = analytic_bca(pairs.differences)
    described = PairStatistics(
        n=n,
        candidate=_describe(candidate.returns[:n], gate, lost_crashes=True),
        champion=None if champion is None else _describe(theirs, gate, lost_crashes=False),
        mean_difference=pairs.mean_difference(n),
        lower_bound=lower_bound(pairs.differences, phantom, alpha),
        bound_alpha=alpha,
        asymptotic_low=low,
        asymptotic_high=high,
        ties=sum(d == 0 for d in pairs.differences) / n,
        variance_ratio=None if champion is None else _variance_ratio(pairs),
        skew=skewness(pairs.differences),
        clipped_share=pairs.n_outside / ((1 if champion is None else 2) * n),
        worst=_worst(candidate, theirs, pairs, alone=champion is None),
        seeds_sha256=_hash_seeds(candidate.first_seed, n),
    )
    return described.with_warnings(tuple(_warn(described)))


def lower_bound(differences: Sequence[float], width: float, alpha: float) -> float:
    """Find the largest mean m that the gate's test still shows.

    It is the largest m with p(differences - m, width + m) <= alpha. As a function of m, p is nearly
    a normal distribution. So the secant method on normal quantiles finds m in a few steps.

    :param width: how far below zero a difference can lie.
    """

    def excess(margin: float) -> float:
        p = p_mean_at_most_zero([value - margin for value in differences], width + margin)
        return normal.inv_cdf(min(max(p, 1e-300), 1 - 1e-12)) - normal.inv_cdf(alpha)

    normal, tolerance = NormalDist(), 1e-4 * width + 1e-12
    low, high = -width + tolerance, math.fsum(differences) / len(differences)
    guess = max(
        low,
        high
        - 3 * deviation(differences) / math.sqrt(len(differences))
        - 3 * width / len(differences),
    )
    for step in range(60):
        over = excess(guess)
        low, high = (guess, high) if over <= 0 else (low, guess)
        if high - low <= tolerance:
            break
        # The first guess is usually close, so the first steps are an eighth of the interval, in the
        # direction of the answer. Later steps halve the interval.
        guess = (
            guess + (high - low) / 8 * (1 if over <= 0 else -1) if step < 4 else (low + high) / 2
        )
        guess = min(max(guess, low + (high - low) / 64), high - (high - low) / 64)
    return low


def analytic_bca(values: Sequence[float], level: float = 0.9) -> tuple[float, float]:
    """Compute the bias-corrected accelerated bootstrap interval of a mean without resampling.

    This is the ABC interval of DiCiccio and Efron (1992), https://doi.org/10.1093/biomet/79.2.231.
    For a mean, bias and curvature vanish.
    """
    n, mean = len(values), math.fsum(values) / len(values)
    error = math.sqrt(math.fsum((value - mean) ** 2 for value in values)) / n
    if error == 0:
        return mean, mean
    acceleration = math.fsum((value - mean) ** 3 for value in values) / (6 * n**3 * error**3)

    def end(quantile: float) -> float:
        shifted = acceleration + NormalDist().inv_cdf(quantile)
        return mean + error * shifted / (1 - acceleration * shifted) ** 2

    return end((1 - level) / 2), end((1 + level) / 2)


def skewness(values: Sequence[float]) -> float:
    """The third standardised moment; 0 when all values are equal."""
    mean = math.fsum(values) / len(values)
    second = math.fsum((value - mean) ** 2 for value in values) / len(values)
    third = math.fsum((value - mean) ** 3 for value in values) / len(values)
    return third / second**1.5 if second > 0 else 0.0


def _describe(returns: Returns, gate: Gate, *, lost_crashes: bool) -> PolicyStatistics:
    seen = sorted(value for value in returns if value is not None)
    lost = len(returns) - len(seen)
    tail = seen[: max(1, math.ceil(TAIL * len(seen)))]
    return PolicyStatistics(
        n=len(returns),
        lost=lost,
        mean=math.fsum(seen) / len(seen) if seen else None,
        deviation=deviation(seen) if seen else None,
        cvar10=math.fsum(tail) / len(tail) if seen else None,
        lowest=seen[0] if seen else None,
        crashes=sum(value < gate.crash_below for value in seen) + (lost if lost_crashes else 0),
    )


def _variance_ratio(pairs: PairedReturns) -> float | None:
    both = deviation(pairs.candidate) ** 2 + deviation(pairs.champion) ** 2
    return deviation(pairs.differences) ** 2 / both if both > 0 else None


def _worst(
    candidate: Shard, champion: Returns, pairs: PairedReturns, *, alone: bool
) -> tuple[WorstPair, ...]:
    order = sorted(range(len(pairs)), key=lambda index: pairs.differences[index])[:N_WORST]
    return tuple(
        WorstPair(
            seed=candidate.first_seed + index,
            candidate=candidate.returns[index],
            champion=None if alone else champion[index],
            difference=pairs.differences[index],
        )
        for index in order
    )


def _hash_seeds(first_seed: int, n: int) -> str:
    return hashlib.sha256(
        ",".join(str(seed) for seed in range(first_seed, first_seed + n)).encode()
    ).hexdigest()


def _warn(found: PairStatistics) -> list[str]:
    warnings = []
    if found.skew < SKEW_WARNING:
        warnings.append(
            f"the differences are skewed to the left ({found.skew:.1f}): rare large losses, on "
            "which usual tests "
            "promote falsely"
        )
    if found.clipped_share > 0.01:
        warnings.append(
            f"{found.clipped_share:.1%} of the returns lie outside the declared range and were "
            "clipped to it"
        )
    if found.ties > 0.5:
        warnings.append(f"{found.ties:.0%} of the pairs are ties")
    if found.variance_ratio is not None and found.variance_ratio > 1.2:
        warnings.append(
            "pairing did not reduce the variance: the two react differently to the same seeds"
        )
    return warnings
