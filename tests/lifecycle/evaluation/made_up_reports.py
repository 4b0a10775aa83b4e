"""Reports of made-up returns."""

import random

from rl_lifecycle.evaluation.decision_reports import Report
from rl_lifecycle.evaluation.gate import decide, decide_first
from rl_lifecycle.evaluation.pair_statistics import describe_pairs
from rl_lifecycle.evaluation.requests import EpisodeEnd, Shard
from rl_lifecycle.evaluation.verdicts import Gate

GATE = Gate(
    return_range=(-200, 320), crash_below=100, max_pairs=400, crash_margin=0.1, scenarios={}
)


def shard(returns: list[float | None]) -> Shard:
    """An evaluation of made-up returns."""
    return Shard(
        env_id="E-v0",
        policy_sha256="a",
        first_seed=1000,
        returns=tuple(returns),
        lengths=tuple(1 for _ in returns),
        ends=tuple(EpisodeEnd.TERMINATED for _ in returns),
        steps=len(returns),
        seconds=1.0,
    )


def noisy(mean: float, n: int, seed: int) -> list[float | None]:
    """Made-up returns with a long left tail."""
    rng = random.Random(seed)
    return [rng.gauss(mean, 30) if rng.random() > 0.02 else rng.uniform(-250, 0) for _ in range(n)]


def report_on(
    candidate: Shard, champion: Shard | None, gate: Gate = GATE, bar: float | None = None
) -> Report:
    """Judge and report."""
    verdict = (
        decide_first(candidate.returns, bar, gate)
        if champion is None
        else decide(candidate.returns, champion.returns, gate)
    )
    return Report(
        experiment="lunar <b>lander</b>",
        run="night-1",
        spec_sha256="5" * 64,
        gate=gate,
        verdict=verdict,
        first_seed=1000,
        candidate_sha256="a" * 64,
        candidate_digest="c" * 64,
        champion_sha256=None,
        champion_digest=None,
        bar=bar,
        statistics=describe_pairs(candidate, champion, gate, verdict, bar),
    )
