"""Draw a stochastic policy's action for one lane, from the generator of its episode.

Row by row on purpose: vectorised exp and sums may round differently with the number of rows, and the action of an
episode must not depend on the episodes beside it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from rl_lifecycle.policies import LOG_STD, LOGITS, MEAN, PolicyMetadata, SpaceForm

Array = np.ndarray[Any, Any]
#: Tells the policy's stream of a seed from the environment's, which is seeded with the seed alone.
_STREAM = 0x706F6C
#: Algorithms whose Gaussian is squashed by tanh and scaled to the action space.
SQUASHED = ("sac", "tqc", "crossq")


def episode_generator(seed: int) -> np.random.Generator:
    """Make the generator that an episode's actions are drawn from."""
    return np.random.default_rng([_STREAM, seed])


def sampler(metadata: PolicyMetadata) -> Callable[[dict[str, Array], Any], Array]:
    """Choose how to draw an action from one row of the policy's outputs.

    :return: a function of that row, by output name, and the episode's generator.
    """
    space = metadata.action_space
    if metadata.distribution == "categorical":
        return lambda row, rng: np.asarray(space.start + _categorical(row[LOGITS], rng))
    if metadata.distribution == "multi_categorical":
        edges = np.cumsum(np.asarray(space.n, np.int64))[:-1]
        return lambda row, rng: np.array([_categorical(part, rng) for part in np.split(row[LOGITS].ravel(), edges)]
                                         ).reshape(space.shape)
    if metadata.distribution == "bernoulli":
        return lambda row, rng: (rng.random(space.shape) < 1 / (1 + np.exp(-row[LOGITS].astype(np.float64)))).astype(np.int8)
    if metadata.algo in SQUASHED:
        return lambda row, rng: _squashed(row, rng, space)
    return lambda row, rng: _clipped(_gaussian(row, rng), space)


def _categorical(logits: Array, rng: np.random.Generator) -> int:
    weights = np.exp(logits.astype(np.float64) - logits.max())
    cumulative = np.cumsum(weights)
    return int(min(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"), len(cumulative) - 1))


def _gaussian(row: dict[str, Array], rng: np.random.Generator) -> Array:
    noise = rng.standard_normal(row[MEAN].shape)
    return np.asarray(row[MEAN] + np.exp(row[LOG_STD].astype(np.float64)) * noise)


def _clipped(action: Array, space: SpaceForm) -> Array:
    low, high = _bounds(space)
    return np.clip(action, low, high).astype(space.dtype or np.float32)


def _squashed(row: dict[str, Array], rng: np.random.Generator, space: SpaceForm) -> Array:
    low, high = _bounds(space)
    return np.asarray(low + 0.5 * (np.tanh(_gaussian(row, rng)) + 1.0) * (high - low)).astype(space.dtype or np.float32)


def _bounds(space: SpaceForm) -> tuple[Array, Array]:
    low, high = (np.asarray(default if bound is None else bound, np.float64)
                 for bound, default in ((space.low, -np.inf), (space.high, np.inf)))
    return (part.reshape(space.shape) if part.ndim else part for part in (low, high))  # type: ignore[return-value]
