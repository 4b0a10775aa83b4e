"""Draw minibatches from SB3's replay buffers without creating tensors.

A seed gives the same transitions as with stock SB3.
"""

from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize

from rl_trainer.numpy_path.layers import Array
from rl_trainer.numpy_path.optimizers import Floats


class Transitions(NamedTuple):
    """Rows of a replay buffer, flattened as SB3's extractor does.

    `discounts` is one number, or one number per row if the buffer has n-step returns.
    """

    observations: Floats
    actions: Array
    next_observations: Floats
    dones: Floats
    rewards: Floats
    discounts: Floats | float


def draw(
    buffer: Any, batch_size: int, statistics: VecNormalize | None, gamma: float
) -> Transitions:
    """Draw rows with replacement.

    Rows are drawn here only from SB3's plain buffer without normalization. Other buffers use their
    own `sample`, for example buffers with n-step returns or with normalized observations.

    :param statistics: the statistics that normalize observations; None without VecNormalize.
    :param gamma: the discount of a buffer without n-step returns.
    """
    if type(buffer) is not ReplayBuffer or buffer.optimize_memory_usage or statistics is not None:
        return _from_tensors(buffer.sample(batch_size, env=statistics), gamma)
    rows = np.random.randint(0, buffer.buffer_size if buffer.full else buffer.pos, size=batch_size)
    # SB3 draws this for a single environment, too.
    envs = np.random.randint(0, high=buffer.n_envs, size=batch_size)
    places = rows * buffer.n_envs + envs

    def take_rows(column: Array) -> Array:
        return column.reshape(buffer.buffer_size * buffer.n_envs, -1).take(places, axis=0)

    dones = take_rows(buffer.dones)[:, 0] * (1 - take_rows(buffer.timeouts)[:, 0])
    return Transitions(
        _floats(take_rows(buffer.observations)),
        take_rows(buffer.actions),
        _floats(take_rows(buffer.next_observations)),
        dones,
        take_rows(buffer.rewards)[:, 0],
        gamma,
    )


def _from_tensors(samples: Any, gamma: float) -> Transitions:
    discounts = gamma if samples.discounts is None else samples.discounts.numpy().reshape(-1)
    return Transitions(
        _floats(samples.observations.numpy()),
        samples.actions.numpy(),
        _floats(samples.next_observations.numpy()),
        samples.dones.numpy().reshape(-1),
        samples.rewards.numpy().reshape(-1),
        discounts,
    )


def _floats(observations: Array) -> Floats:
    """Return one row of 32-bit numbers per observation."""
    return observations.reshape(len(observations), -1).astype(np.float32, copy=False)
