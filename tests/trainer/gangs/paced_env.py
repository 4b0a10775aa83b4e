"""Environments at a pace that a test sets while they are played."""

import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import gymnasium as gym

#: Names the file with the seconds that a step waits. Without it a step does not wait.
PACE_FILE = "TEST_PACE_FILE"


class PacedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Waits before each step. The waiting changes no number.

    With a negative pace it raises an error in a process that another process has started.

    :param least_s: seconds that every step waits.
    """

    def __init__(self, env: gym.Env[Any, Any], least_s: float = 0.0) -> None:
        super().__init__(env)
        self._least_s = least_s

    def step(self, action: Any) -> Any:
        """Wait, then step."""
        file = os.environ.get(PACE_FILE)
        seconds = float(Path(file).read_text()) if file is not None else 0.0
        if seconds < 0 and multiprocessing.parent_process() is not None:
            raise RuntimeError("the simulator has exploded")
        time.sleep(max(seconds, self._least_s))
        return super().step(action)


def paced(env_id: str, least_s: float = 0.0, **kwargs: Any) -> PacedEnv:
    """Make a paced environment. Gymnasium adds its own wrappers outside of it."""
    return PacedEnv(gym.make(env_id, **kwargs).unwrapped, least_s)


for name, what in {
    "Paced-v0": {"env_id": "CartPole-v1"},
    "PacedLunarLander-v0": {"env_id": "LunarLander-v3"},
    "PacedDict-v0": {"env_id": "tests.trainer.toy_envs:Toy-v0", "observation": "goal"},
    "PacedMillisecond-v0": {"env_id": "CartPole-v1", "least_s": 0.001},
}.items():
    gym.register(name, f"{__name__}:paced", max_episode_steps=10, kwargs=what)
