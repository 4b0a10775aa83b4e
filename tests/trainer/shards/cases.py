"""Sharded trainings that take a second, and environments that are hard to collect in parts."""

import multiprocessing
import random
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rl_lifecycle.experiment.spec import Spec
from tests.trainer.conftest import TINY_PPO, frozen

#: The environments of a case: an id and its arguments.
ENVIRONMENTS: dict[str, dict[str, Any]] = {
    "CartPole": {"env_id": "CartPole-v1", "env_kwargs": {"max_episode_steps": 20}},
    "LunarLander": {"env_id": "LunarLander-v3", "env_kwargs": {"max_episode_steps": 20}},
    "Dict": {"env_id": "tests.trainer.toy_envs:Toy-v0", "env_kwargs": {"observation": "goal"}},
}
N_ENVS, N_SHARDS = 10, 5
ALGORITHMS: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 50, "batch_size": 100, "n_epochs": 2, "learning_rate": "lin_0.001"},
    "a2c": {"n_steps": 50},
}


class DrawingEnv(gym.Env[Any, Any]):
    """Draws from the global generators of Python and NumPy, as simulators do that seed nothing."""

    observation_space = spaces.Box(-5, 5, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin an episode."""
        super().reset(seed=seed)
        return self._draw(), {}

    def step(self, action: Any) -> Any:
        """Draw an observation and a reward."""
        return self._draw(), random.random() * float(action), random.random() < 0.05, False, {}

    def _draw(self) -> Any:
        return np.array([random.uniform(-1, 1), np.random.uniform(-1, 1)], np.float32)


class FragileEnv(DrawingEnv):
    """Raises in every process that another process has started."""

    def step(self, action: Any) -> Any:
        """Draw, unless this is such a process."""
        if multiprocessing.parent_process() is not None:
            raise RuntimeError("the simulator has exploded")
        return super().step(action)


gym.register("Fragile-v0", f"{__name__}:FragileEnv", max_episode_steps=20)
gym.register("Drawing-v0", f"{__name__}:DrawingEnv", max_episode_steps=20)


def sharded_spec(algo: str, environment: str, *, normalize: bool) -> Spec:
    """Freeze a training of two segments in five shards of two environments."""
    policy = "MultiInputPolicy" if environment == "Dict" else "MlpPolicy"
    hyperparameters = {
        "n_envs": N_ENVS,
        "policy": policy,
        "policy_kwargs": "dict(net_arch=[8])",
        "normalize": normalize,
        **ALGORITHMS[algo],
    }
    return frozen(
        {
            **TINY_PPO,
            **ENVIRONMENTS[environment],
            "algo": algo,
            "shards": N_SHARDS,
            "total_timesteps": 4_000,
            "checkpoint_every": 2_000,
            "hyperparameters": hyperparameters,
        }
    )
