"""CartPole at a pace that a test sets while it is played."""

import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

#: Names the file with the seconds that a step waits. Without it a step does not wait.
PACE_FILE = "TEST_PACE_FILE"


class PacedEnv(CartPoleEnv):
    """Waits before each step. The waiting changes no number.

    With a negative pace it raises an error in a process that another process has started.
    """

    def step(self, action: Any) -> Any:
        """Wait, then step."""
        file = os.environ.get(PACE_FILE)
        seconds = float(Path(file).read_text()) if file is not None else 0.0
        if seconds > 0:
            time.sleep(seconds)
        if seconds < 0 and multiprocessing.parent_process() is not None:
            raise RuntimeError("the simulator has exploded")
        return super().step(action)


gym.register("Paced-v0", f"{__name__}:PacedEnv", max_episode_steps=10)
