"""An environment whose steps cost a given time: of a core, or of waiting."""

import time
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class CostlyEnv(gym.Env[Any, Any]):
    """Returns random observations of the size of HalfCheetah's.

    :param loops: rounds of a loop in Python in each step; about 12,000 take 0.8 ms of a core here.
    :param wait_s: seconds that each step waits, as for a simulator on a core of its own.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (17,), np.float32)
    action_space = spaces.Box(-1, 1, (6,), np.float32)

    def __init__(self, loops: int = 0, wait_s: float = 0.0) -> None:
        self.loops, self.wait_s = loops, wait_s

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin an episode."""
        super().reset(seed=seed, options=options)
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        """Compute, wait, and draw an observation."""
        value = 0.0
        for number in range(self.loops):
            value = value * 0.5 + number
        if self.wait_s:
            time.sleep(self.wait_s)
        return self._observe(), float(action[0]), False, False, {}

    def _observe(self) -> Any:
        return self.np_random.standard_normal(17).astype(np.float32)


gym.register("Costly-v0", f"{__name__}:CostlyEnv", max_episode_steps=1000)
