"""Returns of real agents, and pairs of policies made from them whose true means are known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rl_lifecycle.evaluation.verdicts import Gate

Array = np.ndarray[Any, Any]
Draw = Callable[[np.random.Generator, int], tuple[Array, Array]]

POOLS = Path(__file__).with_name("return_pools.npz")
#: Declared before the returns were looked at: (lowest, highest, crash threshold).
RANGES = {
    "LunarLander-v3": (-200.0, 320.0, 100.0),
    "Acrobot-v1": (-500.0, 0.0, -200.0),
    "Pendulum-v1": (-1000.0, 0.0, -400.0),
    "CartPole-v1": (0.0, 500.0, 100.0),
}


def load_pool(env_id: str, agent: str) -> Array:
    """The returns of one agent; index is seed. :param agent: e.g. `c0.det`."""
    with np.load(POOLS) as pools:
        return np.asarray(pools[f"{env_id}.{agent}"], dtype=np.float64)


def agents_of(env_id: str) -> list[str]:
    """List the agents that have returns for an environment, sorted."""
    with np.load(POOLS) as pools:
        return sorted(
            name.removeprefix(f"{env_id}.") for name in pools.files if name.startswith(f"{env_id}.")
        )


def gate_for(env_id: str, **changes: Any) -> Gate:
    """The gate with an environment's declared range."""
    low, high, crash_below = RANGES[env_id]
    return Gate(
        return_range=(low, high), crash_below=changes.pop("crash_below", crash_below), **changes
    )


def paired(champion: Array, candidate: Array) -> Draw:
    """Draw pairs of the same seed, with replacement."""
    n = min(len(champion), len(candidate))

    def draw(rng: np.random.Generator, n_pairs: int) -> tuple[Array, Array]:
        seeds = rng.integers(0, n, n_pairs)
        return champion[seeds], candidate[seeds]

    return draw


def unpaired(champion: Array, candidate: Array) -> Draw:
    """Draw both sides independently. The same pool twice gives two equally good policies."""

    def draw(rng: np.random.Generator, n_pairs: int) -> tuple[Array, Array]:
        return rng.choice(champion, n_pairs), rng.choice(candidate, n_pairs)

    return draw


def with_equal_means(champion: Array, candidate: Array, return_range: tuple[float, float]) -> Array:
    """Shift a candidate so that its mean, clipped to the range, equals the champion's."""
    low, high = return_range
    n = min(len(champion), len(candidate))
    goal, most, least = float(np.clip(champion[:n], low, high).mean()), high - low, low - high
    for _ in range(100):
        shift = (most + least) / 2
        if np.clip(candidate[:n] + shift, low, high).mean() > goal:
            most = shift
        else:
            least = shift
    return candidate[:n] + least


def with_rare_crashes(champion: Array, rate: float, crash: float) -> Draw:
    """Draw a candidate that is slightly better in most episodes, but crashes at a given rate.

    The means of both sides are equal.
    """
    gain = rate * (champion.mean() - crash) / (1 - rate)

    def draw(rng: np.random.Generator, n_pairs: int) -> tuple[Array, Array]:
        returns = rng.choice(champion, n_pairs)
        return returns, np.where(rng.random(n_pairs) < rate, crash, returns + gain)

    return draw
