"""Environments with pictures that cost nothing, so that what is measured is the training."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Pictures(gym.Env[np.ndarray[Any, Any], Any]):
    """Frames as an Atari game's, drawn at random: they cost nothing, so that what is measured is the training."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 255, (4, 84, 84), np.uint8)
        self.action_space = spaces.Discrete(6)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed, options=options)
        self._frames = self.np_random.integers(0, 256, (16, 4, 84, 84)).astype(np.uint8)
        return self._frames[0], {}

    def step(self, action: Any) -> tuple[np.ndarray[Any, Any], float, bool, bool, dict[str, Any]]:
        """Reward one of the actions."""
        return self._frames[int(self.np_random.integers(16))], float(action == 0), False, False, {}


class Parts(gym.Env[dict[str, Any], Any]):
    """A picture and a vector."""

    def __init__(self) -> None:
        self.observation_space = spaces.Dict(
            {
                "picture": spaces.Box(0, 255, (3, 36, 36), np.uint8),
                "vector": spaces.Box(-1, 1, (5,)),
            }
        )
        self.action_space = spaces.Box(-1, 1, (2,))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed, options=options)
        return self._observe(), {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Reward what is near zero."""
        return self._observe(), -float(np.abs(action).sum()), False, False, {}

    def _observe(self) -> dict[str, Any]:
        vector = self.np_random.uniform(-1, 1, 5).astype(np.float32)
        return {
            "picture": np.full((3, 36, 36), int(127 + 100 * vector[0]), np.uint8),
            "vector": vector,
        }


gym.register("BenchmarkPictures-v0", f"{__name__}:Pictures", max_episode_steps=200)
gym.register("BenchmarkParts-v0", f"{__name__}:Parts", max_episode_steps=50)
PICTURES, PARTS = f"{__name__}:BenchmarkPictures-v0", f"{__name__}:BenchmarkParts-v0"
