"""Draw a stochastic policy's action for one lane, from the generator of its episode.

Actions are drawn row by row, because the actions of an episode must not depend on the episodes in
other lanes. Vectorised exp and sums may round differently if the number of rows changes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from rl_lifecycle.evaluation.action_masks import choice_sizes
from rl_lifecycle.evaluation.policies import LOG_STD, LOGITS, MEAN, PolicyMetadata, SpaceForm

Array = np.ndarray[Any, Any]
Sampler = Callable[[dict[str, Array], Any], Array]
#: Separates the policy's random numbers from the environment's, which uses the seed alone.
_STREAM = 0x706F6C


def episode_generator(seed: int) -> np.random.Generator:
    """Return the generator from which an episode's actions are drawn."""
    return np.random.default_rng([_STREAM, seed])


def find_sampler(metadata: PolicyMetadata) -> Sampler | None:
    """Return the function that draws an action for a policy.

    :return: a function of one row of the policy's outputs (by output name) and the episode's
        generator; None for a policy without a distribution, whose actions are deterministic.
    """
    space = metadata.action_space
    samplers: dict[str, Sampler] = {
        "categorical": lambda row, rng: np.add(space.start, _categorical(row[LOGITS], rng)),
        "multi_categorical": lambda row, rng: _multi_categorical(row[LOGITS], rng, space),
        "bernoulli": lambda row, rng: _bernoulli(row[LOGITS], rng).reshape(space.shape),
        "gaussian": lambda row, rng: _gaussian(row[MEAN], row[LOG_STD], rng, space),
        "squashed_gaussian": lambda row, rng: _squashed_gaussian(
            row[MEAN], row[LOG_STD], rng, space
        ),
    }
    return samplers.get(metadata.distribution)


def _categorical(logits: Array, rng: np.random.Generator) -> int:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    cumulative = np.cumsum(weights)
    return int(
        min(
            np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"),
            len(cumulative) - 1,
        )
    )


def _multi_categorical(logits: Array, rng: np.random.Generator, space: SpaceForm) -> Array:
    """Draw an option for each choice. The bits of a masked MultiBinary are choices, too."""
    edges = np.cumsum(choice_sizes(space))[:-1]
    drawn = np.array([_categorical(part, rng) for part in np.split(logits, edges)])
    started: Array = (drawn + np.asarray(space.start)).reshape(space.shape)
    return started.astype(np.int8) if space.kind == "MultiBinary" else started


def _bernoulli(logits: Array, rng: np.random.Generator) -> Array:
    return (rng.random(logits.shape) < 1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.int8)


def _gaussian(mean: Array, log_std: Array, rng: np.random.Generator, space: SpaceForm) -> Array:
    """Draw an action, then clip it to the space, as SB3 does before it steps the environment."""
    drawn = _drawn(mean, log_std, rng).reshape(space.shape)
    return np.clip(
        drawn, _bound(space.low, -np.inf, space), _bound(space.high, np.inf, space)
    ).astype(space.dtype or np.float32)


def _squashed_gaussian(
    mean: Array, log_std: Array, rng: np.random.Generator, space: SpaceForm
) -> Array:
    """Draw an action, squash it to [-1, 1], then scale it to the bounds of the space.

    Policies of this kind only exist for bounded spaces.
    """
    squashed = np.tanh(_drawn(mean, log_std, rng)).reshape(space.shape)
    low, high = _bound(space.low, -1.0, space), _bound(space.high, 1.0, space)
    return np.asarray(low + 0.5 * (squashed + 1.0) * (np.asarray(high) - low)).astype(
        space.dtype or np.float32
    )


def _drawn(mean: Array, log_std: Array, rng: np.random.Generator) -> Array:
    drawn: Array = mean + np.exp(log_std.astype(np.float64)) * rng.standard_normal(mean.shape)
    return drawn


def _bound(
    bound: float | tuple[float, ...] | None, unbounded: float, space: SpaceForm
) -> Array | float:
    if bound is None:
        return unbounded
    return np.reshape(bound, space.shape) if isinstance(bound, tuple) else bound
