"""Restore observations of a training from the model's buffer, as the environment gave them."""

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecTransposeImage, unwrap_vec_normalize

from rl_trainer.onnx_export.export import raw_space
from rl_trainer.onnx_export.memory import FrameStack
from rl_trainer.onnx_export.observations import Space, parts_of
from rl_trainer.onnx_export.reference import Observations

#: The greatest number of steps that are read for the equality check.
VISITED = 256


def visited_observations(model: Any) -> Observations | None:
    """Return some of the training's last observations.

    :return: None if the model keeps no observations, or SB3's changes to them cannot be undone.
    """
    rollout = getattr(model, "rollout_buffer", None)
    buffer = rollout if rollout is not None else getattr(model, "replay_buffer", None)
    if buffer is None or model.env is None:
        return None

    space, stack = raw_space(model.env)
    kept = (
        buffer.observations if isinstance(buffer.observations, dict) else {"": buffer.observations}
    )
    seen = parts_of(model.observation_space)
    filled = buffer.buffer_size if buffer.full else buffer.pos
    rows = {
        name: _as_given(
            np.asarray(column[:filled]).reshape(-1, *(part.shape or ()))[-VISITED:],
            model.env,
            stack,
        )
        for (name, column), part in zip(kept.items(), seen.values(), strict=True)
    }
    found: Any = rows if isinstance(space, spaces.Dict) else rows[""]
    statistics = unwrap_vec_normalize(model.env)
    # A replay buffer stores observations before they are normalized, a rollout buffer after.
    if statistics is not None and rollout is not None:
        found = statistics.unnormalize_obs(found)
    return _typed(found, space)


def _as_given(
    rows: np.ndarray[Any, Any], env: VecEnv, stack: FrameStack | None
) -> np.ndarray[Any, Any]:
    """Undo SB3's wrappers: move image channels to the end, and keep the newest frame only."""
    if isinstance(env, VecTransposeImage) and rows.ndim == 4:
        rows = np.moveaxis(rows, 1, -1)
    if stack is None or rows.ndim != len(stack.shape) + 1:
        return rows
    return rows.take(range(-stack.shape[stack.axis], 0), axis=stack.axis + 1)


def _typed(found: Any, space: Space) -> Observations | None:
    """Check the shapes, and convert every part to the environment's type."""
    parts = parts_of(space)
    rows = found if isinstance(found, dict) else dict.fromkeys(parts, found)
    for name, part in parts.items():
        if not len(rows[name]) or rows[name].shape[1:] != (part.shape or ()):
            return None
    typed = {name: np.asarray(rows[name]).astype(part.dtype) for name, part in parts.items()}
    return typed if isinstance(space, spaces.Dict) else next(iter(typed.values()))
