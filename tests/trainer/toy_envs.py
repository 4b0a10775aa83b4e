"""Small and fast environments, one for each kind of space that the trainer supports."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

LENGTH = 20


class ToyEnv(gym.Env[Any, Any]):
    """Rewards an action with the observation's sign; ends at random or after 20 steps."""

    def __init__(self, observation: str = "box", action: str = "discrete") -> None:
        self.observation_space = OBSERVATIONS[observation]
        self.action_space = ACTIONS[action]
        self._signal = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Reward the action and draw the next observation."""
        reward = float(np.mean(np.asarray(action, np.float64)) * self._signal)
        observation = self._observe()
        if isinstance(observation, dict) and "desired_goal" in observation:
            reward = float(
                self.compute_reward(observation["achieved_goal"], observation["desired_goal"], {})
            )
        return observation, reward, bool(self.np_random.random() < 0.02), False, {}

    def action_masks(self) -> np.ndarray[Any, Any]:
        """Forbid one action in three of four states, for MaskablePPO."""
        mask = np.ones(int(getattr(self.action_space, "n", 1)), bool)
        mask[0] = self._signal > -0.5
        return mask

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        """Compute the rewards of achieved goals, for HER."""
        return -np.linalg.norm(achieved_goal - desired_goal, axis=-1)

    def _observe(self) -> Any:
        self._signal = float(self.np_random.uniform(-1, 1))
        return _fill(self.observation_space, self._signal, self.np_random)


def _fill(space: spaces.Space[Any], signal: float, rng: np.random.Generator) -> Any:
    match space:
        case spaces.Dict():
            return {key: _fill(part, signal, rng) for key, part in space.spaces.items()}
        case spaces.Box() if space.dtype == np.uint8:
            return np.full(space.shape, int(127 + 100 * signal), np.uint8)
        case spaces.Box():
            noise = rng.uniform(-0.1, 0.1, space.shape)
            return np.asarray(signal + noise, space.dtype)
        case spaces.Discrete():
            return np.int64(int((signal + 1) / 2 * 0.999 * int(space.n)))
    return np.asarray([signal > 0] * 3, space.dtype)


OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "box": spaces.Box(-2, 2, (3,), np.float32),
    "double": spaces.Box(-2, 2, (3,), np.float64),
    "matrix": spaces.Box(-2, 2, (2, 3), np.float32),
    "image": spaces.Box(0, 255, (36, 36, 1), np.uint8),
    "discrete": spaces.Discrete(5),
    "multi_discrete": spaces.MultiDiscrete([2, 3, 4]),
    "multi_binary": spaces.MultiBinary(3),
    "dict": spaces.Dict(
        {"a": spaces.Box(-2, 2, (2,), np.float32), "b": spaces.Box(-2, 2, (3,), np.float32)}
    ),
    "goal": spaces.Dict(
        {
            key: spaces.Box(-2, 2, (2,), np.float32)
            for key in ("achieved_goal", "desired_goal", "observation")
        }
    ),
}
ACTIONS: dict[str, spaces.Space[Any]] = {
    "discrete": spaces.Discrete(3),
    "box": spaces.Box(-1, 1, (2,), np.float32),
    "wide": spaces.Box(np.array([-2, 0], np.float32), np.array([1, 3], np.float32)),
    "multi_discrete": spaces.MultiDiscrete([2, 3]),
    "multi_discrete_from_1": spaces.MultiDiscrete([2, 3], start=[1, 1]),
    "multi_binary": spaces.MultiBinary(2),
}

gym.register("Toy-v0", "tests.trainer.toy_envs:ToyEnv", max_episode_steps=LENGTH)
