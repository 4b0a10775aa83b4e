"""How large a replay buffer will be, and whether the machine has that much memory: asked before
anything is trained.

SB3's buffers are mapped when they are made and take memory row by row, so one that does not fit
ends a training hours later.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_action_dim, get_obs_shape
from stable_baselines3.common.vec_env import VecEnv

from rl_trainer.errors import BadInputError
from rl_trainer.settings.hyperparameters import ModelSettings

#: Where Linux says what a container may use, of both of its versions; "max", or a number beyond any
#: machine: no limit.
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
#: Reward, done and timeout of a transition, in 32 bits each; HER keeps where its episode begins and
#: how long it is, in 64.
FLAGS, HER = 12, 16
#: And a dictionary that it makes for every transition beforehand, as measured while it does: it
#: fills lists, and then an array.
INFOS = 210
GIB = 2**30
#: What a trainer takes at least beside its buffer: Python, torch, a small model (docs/trainer.md
#: has it measured).
REST = 300 * 2**20


class ReplayTooLargeError(BadInputError):
    """The machine's memory cannot hold the replay buffer.
    :param facts: what it needs and what there is, without what to do.
    """

    def __init__(self, facts: str, most: int) -> None:
        self.facts = facts
        super().__init__(f"{facts}; set at most {most}, or take a larger machine")


@dataclass(frozen=True)
class ReplayNeeds:
    """What a replay buffer takes of the memory in the course of a training.

    :param row: bytes of a transition.
    :param fixed: bytes a transition that are taken at once, however short the training is.
    :param total: environment steps of the training.
    """

    row: int
    fixed: int
    total: int

    def bytes_of(self, size: int) -> int:
        """Bytes at most with room for so many transitions: pages that no transition reaches cost
        nothing.
        """
        return min(size, self.total) * self.row + size * self.fixed

    def largest(self, memory: int) -> int:
        """The largest size that fits."""
        tried = (
            sys.maxsize,
            max(memory - self.total * self.row, 0) // self.fixed if self.fixed else 0,
            max(memory, 0) // (self.row + self.fixed),
        )
        return max(size for size in tried if size == 0 or self.bytes_of(size) <= memory)


def check_replay_fits(
    settings: ModelSettings, total: int, env: VecEnv, memory: int | None = None
) -> None:
    """Refuse a replay buffer that the machine's memory cannot hold when it is as full as the
    training makes it.

    :param total: environment steps of the training.
    :param memory: of the machine, in bytes; None: this one's.
    :raises ReplayTooLargeError: naming `buffer_size`.
    """
    size = buffer_size(settings)
    if size is None:
        return
    kwargs = settings.model_kwargs
    her = "Her" in str(kwargs.get("replay_buffer_class"))
    row = transition_bytes(env.observation_space, env.action_space, her=her)
    needs = ReplayNeeds(row, INFOS if her else 0, total)
    there = machine_memory() if memory is None else memory
    longest = (physical_memory() if memory is None else memory) or sys.maxsize
    array = _largest_part(env.observation_space)
    if there is None or (needs.bytes_of(size) + REST <= there and size * array <= longest):
        return
    needed = (
        needs.bytes_of(size) if size * array <= longest else size * row
    )  # no page is taken, but Linux maps no such array
    raise ReplayTooLargeError(
        f"hyperparameters.buffer_size: {size} transitions of {row + needs.fixed} bytes need "
        f"{needed / GIB:.1f} GiB in {total} steps, and "
        f"this machine has {there / GIB:.1f} GiB of memory, {REST / GIB:.1f} of them for "
        "everything else",
        min(needs.largest(there - REST), longest // array),
    )


def buffer_size(settings: ModelSettings) -> int | None:
    """How many transitions the replay buffer holds; None for an algorithm without one."""
    size = settings.model_kwargs.get("buffer_size", settings.algorithm.settings.get("buffer_size"))
    return None if size is None else int(size)


def transition_bytes(
    observations: spaces.Space[Any], actions: spaces.Space[Any], *, her: bool = False
) -> int:
    """How many bytes SB3's buffers keep of one transition."""
    kind = np.dtype(np.float32) if actions.dtype == np.float64 else np.dtype(actions.dtype)
    return (
        2 * _observation_bytes(observations)
        + get_action_dim(actions) * kind.itemsize
        + FLAGS
        + (HER if her else 0)
    )


def machine_memory() -> int | None:
    """The machine's memory in bytes, or what its container may use of it; None where the platform
    does not say.
    """
    physical = physical_memory()
    return (
        None
        if physical is None
        else min(
            [physical, *(int(text) for path in LIMITS if (text := _text(Path(path))).isdigit())]
        )
    )


def physical_memory() -> int | None:
    """The machine's memory in bytes; None where the platform does not say."""
    return (
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if "SC_PHYS_PAGES" in os.sysconf_names
        else None
    )


def _largest_part(space: spaces.Space[Any]) -> int:
    """Bytes of an observation in the largest of the arrays that it is kept in."""
    return (
        max(map(_observation_bytes, space.spaces.values()))
        if isinstance(space, spaces.Dict)
        else _observation_bytes(space)
    )


def _observation_bytes(space: spaces.Space[Any]) -> int:
    if isinstance(space, spaces.Dict):
        return sum(_observation_bytes(part) for part in space.spaces.values())
    shape: Any = get_obs_shape(space)
    return int(np.prod(shape)) * np.dtype(space.dtype).itemsize


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
