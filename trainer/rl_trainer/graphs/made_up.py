"""Made-up transitions, to try a model's updates on before any were played: from generators of their own."""

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from rl_trainer.graphs.losses import unchecked_distributions

#: Observations that are drawn; a rollout repeats them.
DRAWN = 64


class Unplayable(gym.Env[Any, Any]):
    """Has the spaces of an environment, and nothing else: enough to build a model on."""

    def __init__(
        self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
    ) -> None:
        self.observation_space, self.action_space = observation_space, action_space


def unplayable(
    observation_space: spaces.Space[Any], action_space: spaces.Space[Any], n_envs: int
) -> VecEnv:
    """Make environments of given spaces that nobody can play."""
    return DummyVecEnv([lambda: Unplayable(observation_space, action_space)] * n_envs)


def fill_rollout(model: Any, seed: int) -> None:
    """Fill a model's rollout buffer, with log-probabilities near those of its policy."""
    buffer, rng = model.rollout_buffer, np.random.default_rng(seed)
    observations = buffer.observations
    if isinstance(observations, dict):
        seen: Any = {
            key: _repeat(column, buffer.observation_space[key], model.device)
            for key, column in observations.items()
        }
    else:
        seen = _repeat(observations, buffer.observation_space, model.device)
    done = _repeat(buffer.actions, buffer.action_space, model.device).float()
    with torch.no_grad(), unchecked_distributions():
        _, log_prob, _ = model.policy.evaluate_actions(
            seen, done.flatten() if isinstance(model.action_space, spaces.Discrete) else done
        )
    for column in (buffer.values, buffer.advantages, buffer.returns):
        column[:] = rng.normal(size=column.shape)
    buffer.log_probs[:] = np.resize(log_prob.cpu().numpy(), buffer.log_probs.shape) + rng.normal(
        0, 0.1, buffer.log_probs.shape
    )


def made_up_batch(model: Any, seed: int, rows: int) -> Any:
    """Make a batch of the form in which a model's replay buffer gives it."""
    buffer, device = model.replay_buffer, model.device
    rng, space = np.random.default_rng(seed), buffer.observation_space
    observations, following = (
        {key: _tensor(_draw(part, rows, seed + later), device) for key, part in space.items()}
        if isinstance(space, spaces.Dict)
        else _tensor(_draw(space, rows, seed + later), device)
        for later in (0, 7)
    )
    actions = _draw(buffer.action_space, rows, seed)
    actions = (
        actions.reshape(rows, -1)
        if isinstance(buffer.action_space, spaces.Discrete)
        else actions.clip(-1, 1)
    )  # as SB3 keeps them
    dones, rewards = (
        _tensor(column.astype(np.float32)[:, None], device)
        for column in (rng.random(rows) < 0.1, rng.normal(size=rows))
    )
    discounts = (
        torch.full_like(rewards, float(model.gamma))
        if isinstance(buffer, NStepReplayBuffer)
        else None
    )
    kind: Any = (
        DictReplayBufferSamples if isinstance(buffer, DictReplayBuffer) else ReplayBufferSamples
    )
    return kind(observations, _tensor(actions, device), following, dones, rewards, discounts)


def _repeat(
    column: np.ndarray[Any, Any], space: spaces.Space[Any], device: torch.device
) -> torch.Tensor:
    """Draw values of a space, and fill a column with them over and over. :return: those drawn."""
    drawn = _draw(space, DRAWN, 0).reshape(DRAWN, *column.shape[2:]).astype(column.dtype)
    column[:] = drawn[np.arange(column.shape[0] * column.shape[1]) % DRAWN].reshape(column.shape)
    return _tensor(drawn, device)


def _draw(space: spaces.Space[Any], rows: int, seed: int) -> np.ndarray[Any, Any]:
    """Draw values of a space, none beyond ±10 where they are real."""
    space = copy.deepcopy(space)  # so that the environments' own generators stay where they are
    space.seed(seed)
    drawn = np.stack([np.asarray(space.sample()) for _ in range(min(rows, DRAWN))])
    drawn = np.resize(drawn, (rows, *drawn.shape[1:]))
    return drawn.clip(-10, 10).astype(drawn.dtype) if drawn.dtype.kind == "f" else drawn


def _tensor(array: np.ndarray[Any, Any], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
