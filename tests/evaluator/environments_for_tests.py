"""Environments with every kind of space, and environments that fail."""

import sys
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
    """Raises or leaves on some seeds, at reset or at a step, and whenever it is closed."""

    def __init__(self) -> None:
        super().__init__(spaces.Box(-1, 1, (3,)), spaces.Discrete(2))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        answer = super().reset(seed=seed)
        self.seed = seed or 0
        if self.seed % 10 == 3:
            raise RuntimeError(f"no world for seed {seed}\nand a long story")
        if self.seed % 10 == 5:
            sys.exit("no licence")
        return answer

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        answer = super().step(action)
        if self.seed % 10 == 7 and self.steps == 2:
            raise ZeroDivisionError("physics")
        if self.seed % 10 == 9 and self.steps == 2:
            sys.exit()
        return answer

    def close(self) -> None:
        sys.exit("cannot be closed")


class MaskedEnv(SpacesEnv):
    """Allows half of all options, at random. A forbidden option raises an error."""

    def __init__(self, action_space: spaces.Space[Any], closed_at: int | None = None) -> None:
        super().__init__(spaces.Box(-1, 1, (3,)), action_space)
        self.closed_at = closed_at
        self.sizes: tuple[int, ...] = {
            spaces.Discrete: lambda space: (int(space.n),),
            spaces.MultiDiscrete: lambda space: tuple(space.nvec.tolist()),
            spaces.MultiBinary: lambda space: (2,) * int(space.n),
        }[type(action_space)](action_space)

    def action_masks(self) -> Any:
        if self.steps == self.closed_at:
            return np.zeros(sum(self.sizes), bool)
        return self.mask.copy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        answer = super().reset(seed=seed)
        self._draw_mask()
        return answer

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        offset = 0
        for option, size in zip(np.ravel(action), self.sizes, strict=True):
            if not self.mask[offset + int(option)]:
                raise ValueError(f"the action {action} is impossible")
            offset += size
        answer = super().step(action)
        self._draw_mask()
        return answer

    def _draw_mask(self) -> None:
        parts = [self.np_random.permutation(size) < (size + 1) // 2 for size in self.sizes]
        self.mask = np.concatenate(parts)


class NotFiniteEnv(SpacesEnv):
    """Gives NaN as the reward, or in the observation, at one step of every third seed."""

    def __init__(self, what: str, at: int = 4) -> None:
        super().__init__(spaces.Box(-1, 1, (3,)), spaces.Discrete(2))
        self.what, self.at, self.poisoned = what, at, True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        observation, info = super().reset(seed=seed)
        self.poisoned = seed is None or seed % 3 == 0
        if self.at == 0 and self.poisoned:
            observation[1] = np.nan
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, _, _, info = super().step(action)
        if self.poisoned and self.steps == self.at:
            if self.what == "reward":
                reward = float("inf")
            else:
                observation[2] = np.nan
        return observation, reward, self.steps == 12, False, info


class EndlessEnv(SpacesEnv):
    """Never ends an episode."""

    def __init__(self) -> None:
        super().__init__(spaces.Box(-1, 1, (3,)), spaces.Discrete(2))

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros(3, np.float32), 1.0, False, False, {}
