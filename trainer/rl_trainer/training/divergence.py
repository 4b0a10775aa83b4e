"""Check at the end of a segment whether the training has diverged.

The check looks at the largest parameter and at the error of the estimated values.
"""

import math
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from rl_lifecycle.trials.divergence import find_divergence
from rl_trainer.errors import DivergedError

#: The losses that SB3 logs, and their power of the value error. DQN's loss grows linearly with the
#: error, and the others with its square.
LOSSES = (("train/value_loss", 2), ("train/critic_loss", 2), ("train/loss", 1))


def check_divergence(model: Any) -> None:
    """Check a model between two segments, where the same training always has the same numbers.

    :raises DivergedError: if a number is too large for the model to learn anything.
    """
    problem = find_divergence(
        parameter=largest_parameter(model),
        value_error=value_error(model),
        largest_reward=largest_reward(model),
        gamma=float(getattr(model, "gamma", 1.0)),
    )
    if problem is not None:
        raise DivergedError(
            f"{problem} at step {model.num_timesteps}: lower the learning rate, or check the "
            "rewards"
        )


def largest_parameter(model: Any) -> float:
    """Return the largest absolute value of the policy's parameters."""
    return max(
        (
            float(parameter.detach().abs().max())
            for parameter in model.policy.parameters()
            if parameter.numel()
        ),
        default=0.0,
    )


def value_error(model: Any) -> float | None:
    """Return the error of the estimated values in the last update, computed from SB3's log.

    :return: None if SB3 has logged no loss since it last wrote its log.
    """
    for name, power in LOSSES:
        loss = model.logger.name_to_value.get(name)
        if loss is not None:
            return math.pow(max(0.0, float(loss)), 1 / power)
    return None


def largest_reward(model: Any) -> float:
    """Return the largest absolute reward of this segment and of the replay buffer.

    If VecNormalize scales rewards, its `clip_reward` is the lower limit of the result.
    """
    env: VecEnv = model.env
    largest = float(getattr(env.unwrapped, "largest_reward", 0.0))
    buffer = getattr(model, "replay_buffer", None)
    if buffer is not None:
        rows = buffer.rewards if buffer.full else buffer.rewards[: buffer.pos]
        largest = max(largest, float(np.abs(rows).max(initial=0.0)))
    statistics = model.get_vec_normalize_env()
    return (
        max(largest, statistics.clip_reward)
        if isinstance(statistics, VecNormalize) and statistics.norm_reward
        else largest
    )
