"""The rule that ends a trial before its last step. It only uses selection seeds.

Policies are evaluated while the trial is being trained. Each policy gives one point of the learning
curve. Let m be its mean return (clipped to the declared range, lost episodes at the floor) and e
its standard error. The trial ends when

- **target**: `target_above` is set, and a point has m − 2e ≥ target_above;
- **hopeless**: `hopeless_below` is set, `hopeless_after` of the steps have been trained, there are
  at least three points, and every point has m + 2e < hopeless_below.

The rule never uses the gate's seeds, so stopping spends no alpha. The policies that were trained
before the end can become the candidate, as always.
"""

import math
from collections.abc import Iterable, Mapping

from rl_lifecycle.evaluation.requests import Shard
from rl_lifecycle.experiment.evaluation_settings import EarlyStop, Evaluation
from rl_lifecycle.records.record import Record

#: How many standard errors must lie between a mean and its limit.
CLEARANCE = 2.0
#: A trial with fewer points is never hopeless.
FEWEST_POINTS = 3


class CurvePoint(Record):
    """The result of one policy of a trial on the selection seeds."""

    step: int
    mean: float
    error: float
    n_episodes: int


def curve_of(shards: Mapping[int, Shard], evaluation: Evaluation) -> tuple[CurvePoint, ...]:
    """Compute the learning curve of a trial.

    :param shards: step → its selection episodes. An incomplete evaluation is left out.
    """
    return tuple(
        _point(step, shards[step], evaluation)
        for step in sorted(shards)
        if len(shards[step].returns) >= evaluation.selection_episodes
    )


def why_stop(curve: Iterable[CurvePoint], rule: EarlyStop, total_timesteps: int) -> str:
    """Explain why a trial may end early. The text is empty while it must continue.

    >>> point = CurvePoint(step=50, mean=490.0, error=2.0, n_episodes=100)
    >>> why_stop([point], EarlyStop(target_above=480), 100)
    'target reached at step 50: mean return 490 - 2 x 2 is at least 480'
    >>> why_stop([point], EarlyStop(target_above=487), 100)
    ''
    """
    points = sorted(curve, key=lambda point: point.step)
    return _why_done(points, rule) or _why_hopeless(points, rule, total_timesteps)


def _why_done(points: list[CurvePoint], rule: EarlyStop) -> str:
    if rule.target_above is None:
        return ""
    for point in points:
        if point.mean - CLEARANCE * point.error >= rule.target_above:
            return (
                f"target reached at step {point.step:,}: mean return {point.mean:.4g} - "
                f"{CLEARANCE:g} x {point.error:.2g} is at "
                f"least {rule.target_above:g}"
            )
    return ""


def _why_hopeless(points: list[CurvePoint], rule: EarlyStop, total_timesteps: int) -> str:
    if (
        rule.hopeless_below is None
        or len(points) < FEWEST_POINTS
        or points[-1].step < rule.hopeless_after * total_timesteps
    ):
        return ""
    best = max(points, key=lambda point: point.mean + CLEARANCE * point.error)
    if best.mean + CLEARANCE * best.error >= rule.hopeless_below:
        return ""
    return (
        f"hopeless at step {points[-1].step:,}: of {len(points)} policies the best has the mean "
        f"return {best.mean:.4g} + "
        f"{CLEARANCE:g} x {best.error:.2g}, below {rule.hopeless_below:g}"
    )


def _point(step: int, shard: Shard, evaluation: Evaluation) -> CurvePoint:
    low, high = evaluation.return_range
    returns = [low if value is None else min(max(value, low), high) for value in shard.returns]
    mean = math.fsum(returns) / len(returns)
    spread = math.fsum((value - mean) ** 2 for value in returns) / max(1, len(returns) - 1)
    return CurvePoint(
        step=step, mean=mean, error=math.sqrt(spread / len(returns)), n_episodes=len(returns)
    )
