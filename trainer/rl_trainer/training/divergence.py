"""What a model shows of a divergence at a segment's end: its largest parameter, and how wrong its
values were.
"""

import math
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from rl_lifecycle.trials.divergence import find_divergence
from rl_trainer.errors import DivergedError

#: What SB3 logs of a value's error, and the power that it is of: DQN's loss grows with the error
#: itself, the others with its square.
LOSSES = (("train/value_loss", 2), ("train/critic_loss", 2), ("train/loss", 1))


def check_sane(model: Any) -> None:
    """Look at a model between two segments, where the same training always stands at the same
    numbers.

    :raises DivergedError: if something has grown beyond what learns anything.
    """
    problem = find_divergence(
        parameter=largest_parameter(model),
        value_error=value_error(model),
        largest_reward=largest_reward(model),
        gamma=float(getattr(model, "gamma", 1.0)),
    )
    if problem is not None:
        raise DivergedError(
            f"{problem} at step {model.num_timesteps}: lower the learning rate, or look at the "
            "rewards"
        )


def largest_parameter(model: Any) -> float:
    """The policy's largest parameter by its size."""
    return max(
        (
            float(parameter.detach().abs().max())
            for parameter in model.policy.parameters()
            if parameter.numel()
        ),
        default=0.0,
    )


def value_error(model: Any) -> float | None:
    """How wrong the values were in the last update, from what SB3 logged of it; None if it logged
    nothing since it last wrote.
    """
    for name, power in LOSSES:
        loss = model.logger.name_to_value.get(name)
        if loss is not None:
            return math.pow(max(0.0, float(loss)), 1 / power)
    return None


def largest_reward(model: Any) -> float:
    """The largest reward by its size: of this segment, of the replay buffer, or what normalisation
    leaves of any.
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
