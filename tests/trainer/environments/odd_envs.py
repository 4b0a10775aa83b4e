"""Environments that end, hang or misbehave in a worker. Their action says when."""

import itertools
import multiprocessing
import os
import random
import signal
import sys
import time
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

#: Counts the environments that this process has made: state that environments share.
MADE = itertools.count()


class OddEnv(gym.Env[Any, Any]):
    """Does one odd thing in the step after a number of good ones.

    :param odd: the name of a method of this class; empty for none.
    :param after: good steps before it.
    :param only_here: whether it cannot be made in a worker.
    """

    observation_space = spaces.Box(-10, 10, (3,), np.float64)
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def __init__(
        self, odd: str = "", after: int = 0, step_s: float = 0.0, only_here: bool = False
    ) -> None:
        if only_here and multiprocessing.parent_process() is not None:
            raise RuntimeError("there is no display")
        self.odd, self.after, self.step_s = odd, after, step_s
        self.steps, self.last_action = 0, np.zeros(2, np.float32)
        self.number = next(MADE)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin an episode."""
        super().reset(seed=seed)
        return self._observe(), {"seed": seed}

    def step(self, action: Any) -> Any:
        """Step, after the odd thing if it is time."""
        self.steps += 1
        if self.step_s:
            time.sleep(self.step_s)
        if self.odd and self.steps > self.after:
            getattr(self, self.odd)()
        moved = float(np.abs(action - self.last_action).sum())
        self.last_action = action  # kept, not copied: its array must not change
        info = {"lambda": lambda: None, "is_success": moved > 1}
        return self._observe(), moved, bool(self.np_random.random() < 0.05), False, info

    def _observe(self) -> Any:
        return self.np_random.uniform(-1, 1, 3)

    def become(self, odd: str = "", step_s: float = 0.0) -> None:
        """Do something odd in the next step, or take longer for it."""
        self.odd, self.step_s = odd, step_s

    def where(self) -> int:
        """Return the id of the process that steps this environment."""
        return os.getpid()

    def die(self) -> None:
        """End the process as the kernel does when the memory is full."""
        os.kill(os.getpid(), signal.SIGKILL)

    def crash(self) -> None:
        """End the process as an error in C code does."""
        os.kill(os.getpid(), signal.SIGSEGV)

    def crash_apart(self) -> None:
        """End the process as an error in C code does if it is not the trainer's own."""
        if multiprocessing.parent_process() is not None:
            self.crash()

    def leave_apart(self) -> None:
        """End the process without a word if it is not the trainer's own."""
        if multiprocessing.parent_process() is not None:
            self.leave()

    def vanish_apart(self) -> None:
        """End the process as if all were well if it is not the trainer's own."""
        if multiprocessing.parent_process() is not None:
            os._exit(0)

    def spawn(self) -> None:
        """Let another process do the work of a step."""
        process = multiprocessing.get_context("fork").Process(target=int)
        process.start()
        process.join()

    def leave(self) -> None:
        """End the process without a word."""
        os._exit(5)

    def exit(self) -> None:
        """Call `sys.exit`, as some simulators do."""
        sys.exit(3)

    def hang(self) -> None:
        """Never return."""
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
        time.sleep(3600)

    def hang_apart(self) -> None:
        """Never return if this process is a worker."""
        if multiprocessing.parent_process() is not None:
            self.hang()

    def fail(self) -> None:
        """Raise an error that cannot be pickled."""
        raise UnpicklableError(lambda: None)

    def draw_random(self) -> None:
        """Draw from Python's global generator."""
        random.random()

    def draw_numpy(self) -> None:
        """Draw from NumPy's global generator."""
        np.random.random()

    def draw_torch(self) -> None:
        """Draw from torch's global generator."""
        torch.rand(1)

    def share(self) -> None:
        """Depend on how many environments the process has made."""
        self.last_action = self.last_action + self.number


class UnpicklableError(Exception):
    """An error that holds a function."""

    def __str__(self) -> str:
        return "the simulator has gone"


gym.register("Odd-v0", f"{__name__}:OddEnv", max_episode_steps=30)
ODD = f"{__name__}:Odd-v0"
