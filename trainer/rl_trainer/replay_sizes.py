"""How large a replay buffer will be, and whether the machine has that much memory: asked before anything is trained.

SB3's buffers are mapped when they are made and take memory row by row, so one that does not fit ends a training hours later.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_action_dim, get_obs_shape
from stable_baselines3.common.vec_env import VecEnv

from rl_trainer.algorithms import Algorithm
from rl_trainer.errors import BadInputError
from rl_trainer.setting_checks import constructor_keys
from rl_trainer.settings import Settings

#: Where Linux says what a container may use, of both of its versions; "max", or a number beyond any machine: no limit.
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
#: Reward, done and timeout of a transition, in 32 bits each; HER keeps where its episode begins and how long it is, in 64.
FLAGS, HER = 12, 16
GIB = 2**30
#: What a trainer takes at least beside its buffer: Python, torch, a small model (docs/trainer.md has it measured).
REST = 300 * 2**20


def check_replay_fits(settings: Settings, env: VecEnv, memory: int | None = None) -> None:
    """Refuse a replay buffer that the machine's memory cannot hold when it is full.

    :param memory: of the machine, in bytes; None: this one's. :raises BadInputError: naming `buffer_size`.
    """
    size = buffer_size(settings)
    if size is None:
        return
    row = transition_bytes(env.observation_space, env.action_space, her="Her" in str(settings.model_kwargs.get("replay_buffer_class")))
    there = machine_memory() if memory is None else memory
    if there is not None and size * row + REST > there:
        raise BadInputError(f"hyperparameters.buffer_size: {size} transitions of {row} bytes need {size * row / GIB:.1f} GiB, and this "
                            f"machine has {there / GIB:.1f} GiB of memory, {REST / GIB:.1f} of them for everything else; set at most "
                            f"{max(there - REST, 0) // row}, or take a larger machine")


def buffer_size(settings: Settings) -> int | None:
    """How many transitions the replay buffer holds; None for an algorithm without one."""
    size = settings.model_kwargs.get("buffer_size", _default(settings.algorithm))
    return None if size is None else int(size)


def transition_bytes(observations: spaces.Space[Any], actions: spaces.Space[Any], *, her: bool = False) -> int:
    """How many bytes SB3's buffers keep of one transition."""
    kind = np.dtype(np.float32) if actions.dtype == np.float64 else np.dtype(actions.dtype)
    return 2 * _observation_bytes(observations) + get_action_dim(actions) * kind.itemsize + FLAGS + (HER if her else 0)


def machine_memory() -> int | None:
    """The machine's memory in bytes, or what its container may use of it; None where the platform does not say."""
    if "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    limits = [int(text) for path in LIMITS if (text := _text(Path(path))).isdigit()]
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *limits])


def _observation_bytes(space: spaces.Space[Any]) -> int:
    if isinstance(space, spaces.Dict):
        return sum(_observation_bytes(part) for part in space.spaces.values())
    shape: Any = get_obs_shape(space)
    return int(np.prod(shape)) * np.dtype(space.dtype).itemsize


def _default(algorithm: Algorithm) -> int | None:
    size: int | None = constructor_keys(algorithm).get("buffer_size")
    return size


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
