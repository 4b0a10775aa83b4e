"""Collect a rollout for PPO and A2C.

Each step only runs the policy network. Values and log-probabilities are computed after the last
step, in large batches. The weights do not change during a rollout, so SB3's computation is only
done in another order.
"""

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from rl_trainer.numpy_path.distributions import Array
from rl_trainer.numpy_path.on_policy_update import ActorCriticUpdate
from rl_trainer.numpy_path.optimizers import Floats

#: Number of rows for which values are computed at once. Their activations fit into the processor's
#: cache.
BLOCK = 512


def collect(
    model: Any,
    engine: ActorCriticUpdate,
    rng: np.random.Generator,
    env: VecEnv,
    callback: BaseCallback,
    buffer: RolloutBuffer,
    n_steps: int,
) -> bool:
    """Fill the buffer with `n_steps` steps of every environment.

    :param rng: the generator from which the actions' noise is drawn.
    :return: False if a callback stopped the rollout.
    """
    buffer.reset()
    callback.on_rollout_start()

    noise = engine.distribution.noise(rng, n_steps, env.num_envs)
    outputs = np.empty_like(noise)  # the policy network's outputs, for the log-probabilities
    network, bounds = engine.fixed_policy(env.num_envs), _bounds(model.action_space)
    truncated: list[tuple[int, int, Array]] = []

    for step in range(n_steps):
        observations = _rows(model._last_obs, env.num_envs)
        outputs[step] = chosen = network.forward(observations)
        actions = engine.distribution.sample(chosen, noise[step])
        new_observations, rewards, dones, infos = env.step(
            _clipped(actions, bounds) if bounds else actions
        )

        model.num_timesteps += env.num_envs
        callback.update_locals(locals())
        if not callback.on_step():
            return False

        if np.count_nonzero(dones):  # several times faster than any()
            model._update_info_buffer(infos, dones)
            truncated += [
                (step, int(index), infos[index]["terminal_observation"])
                for index in np.flatnonzero(dones)
                if infos[index].get("TimeLimit.truncated", False)
            ]

        buffer.observations[step] = model._last_obs
        buffer.actions[step] = actions.reshape(env.num_envs, -1)
        buffer.rewards[step] = rewards
        buffer.episode_starts[step] = model._last_episode_starts
        model._last_obs, model._last_episode_starts = new_observations, dones

    _finish(model, engine, buffer, outputs, truncated)
    callback.update_locals(locals())
    callback.on_rollout_end()
    return True


def _finish(
    model: Any,
    engine: ActorCriticUpdate,
    buffer: RolloutBuffer,
    outputs: Floats,
    truncated: list[tuple[int, int, Array]],
) -> None:
    """Fill in values, log-probabilities, bootstraps of truncated episodes, advantages, returns."""
    steps, n_envs = buffer.rewards.shape
    rows = steps * n_envs
    evaluated = engine.distribution.evaluate(
        np.ascontiguousarray(outputs.reshape(rows, -1).T),
        engine.distribution.columns(buffer.actions.reshape(rows, -1)),
    )
    buffer.log_probs[...] = evaluated.log_prob.reshape(steps, n_envs)

    observations, predicted = _rows(buffer.observations, rows), buffer.values.reshape(-1)
    for start in range(0, rows, BLOCK):
        predicted[start : start + BLOCK] = values(engine, observations[start : start + BLOCK])

    if truncated:
        at_steps, at_envs, last = zip(*truncated, strict=True)
        buffer.rewards[list(at_steps), list(at_envs)] += model.gamma * values(
            engine, _rows(np.array(last), len(last))
        )

    buffer.pos, buffer.full = steps, True
    estimate_advantages(
        buffer, values(engine, _rows(model._last_obs, n_envs)), model._last_episode_starts
    )


def estimate_advantages(buffer: RolloutBuffer, last_values: Floats, dones: Array) -> None:
    """Write advantages and returns, bit by bit equal to those of SB3's buffer.

    Only the recursion over steps needs a loop; the rest is computed for all steps at once.
    """
    next_non_terminal = np.empty_like(buffer.values)
    next_non_terminal[:-1], next_non_terminal[-1] = (
        1.0 - buffer.episode_starts[1:],
        1.0 - dones.astype(np.float32),
    )
    next_values = np.concatenate((buffer.values[1:], last_values[None]))
    advantages = buffer.rewards + buffer.gamma * next_values * next_non_terminal - buffer.values

    decay = buffer.gamma * buffer.gae_lambda * next_non_terminal
    next_advantage = np.zeros_like(last_values)
    for step in range(len(advantages) - 1, -1, -1):
        row = advantages[step]
        row += decay[step] * next_advantage
        next_advantage = row
    buffer.advantages, buffer.returns = advantages, advantages + buffer.values


def values(engine: ActorCriticUpdate, observations: Floats) -> Floats:
    """Run the value network. :return: one value per row, in an array that the next call reuses."""
    return engine.two.value.forward(observations)[:, 0]


def _rows(observations: Array, rows: int) -> Floats:
    """Flatten observations as SB3's extractor does, in 32 bits."""
    return observations.reshape(rows, -1).astype(np.float32, copy=False)


def _clipped(actions: Array, bounds: tuple[Array, Array]) -> Array:
    """Clip actions as `np.clip` does, without the time that it spends on its options."""
    clipped: Array = np.maximum(actions, bounds[0])
    return np.minimum(clipped, bounds[1], out=clipped)


def _bounds(space: spaces.Space[Any]) -> tuple[Array, Array] | None:
    return (space.low, space.high) if isinstance(space, spaces.Box) else None
