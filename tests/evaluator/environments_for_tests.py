"""Environments with every kind of space, and environments that fail."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class SpacesEnv(gymnasium.Env[Any, Any]):
    """Walks at random with any spaces: the reward sums the action, and the end is random."""

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        longest: int = 30,
    ) -> None:
        self.observation_space, self.action_space, self.longest = (
            observation_space,
            action_space,
            longest,
        )

    def _observe(self) -> Any:
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), (
            f"{action!r} of {getattr(action, 'dtype', type(action))}"
        )
        self.steps += 1
        reward = float(np.sum(action)) + float(self.np_random.normal())
        return (
            self._observe(),
            reward,
            bool(self.np_random.random() < 0.1),
            self.steps >= self.longest,
            {},
        )


class RaisingEnv(SpacesEnv):
    """Raises on some seeds, at reset or at a step."""

    def __init__(self) -> None:
        super().__init__(spaces.Box(-1, 1, (3,)), spaces.Discrete(2))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        answer = super().reset(seed=seed)
        self.seed = seed or 0
        if self.seed % 10 == 3:
            raise RuntimeError(f"no world for seed {seed}\nand a long story")
        return answer

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        answer = super().step(action)
        if self.seed % 10 == 7 and self.steps == 2:
            raise ZeroDivisionError("physics")
        return answer
