"""The memory that a replay buffer needs, compared with the machine's memory before the training.

SB3 maps its buffers when it makes them, and they take memory row by row. Without this check, a
buffer that does not fit would end the training hours later.
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
from rl_trainer.settings.model_settings import ModelSettings

#: Files in which Linux states a container's memory limit, for cgroup versions 2 and 1. If there is
#: no limit, they hold "max" or a number that is larger than any machine's memory.
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
#: Bytes of a transition's reward, done and timeout: 32 bits each.
FLAGS = 12
#: Bytes that HER adds for the start and the length of a transition's episode: 64 bits each.
HER = 16
#: Bytes of the dictionary that HER makes for every transition when it is built. The number was
#: measured during construction, because HER first fills lists and then an array.
INFOS = 210
GIB = 2**30
#: Bytes that a trainer needs at least beside its buffer, for Python, torch and a small model. The
#: measurement is in docs/trainer.md.
REST = 300 * 2**20


class ReplayTooLargeError(BadInputError):
    """The machine's memory cannot hold the replay buffer.

    :param facts: the memory that is needed and the memory that the machine has.
    :param most: the largest `buffer_size` that fits, in transitions.
    """

    def __init__(self, facts: str, most: int) -> None:
        self.facts = facts
        super().__init__(f"{facts}; set at most {most}, or take a larger machine")


@dataclass(frozen=True)
class ReplayNeeds:
    """The memory that a replay buffer uses during the training.

    :param row: bytes of a transition.
    :param fixed: bytes of a transition that are used from the start, in a short training, too.
    :param total: environment steps of the training.
    """

    row: int
    fixed: int
    total: int

    def bytes_of(self, size: int) -> int:
        """Return the most bytes that a buffer of this size uses.

        Memory pages that no transition reaches cost nothing.

        :param size: the buffer's size in transitions.
        """
        return min(size, self.total) * self.row + size * self.fixed

    def largest(self, memory: int) -> int:
        """Return the largest size, in transitions, that fits into this many bytes of memory."""
        tried = (
            sys.maxsize,
            max(memory - self.total * self.row, 0) // self.fixed if self.fixed else 0,
            max(memory, 0) // (self.row + self.fixed),
        )
        return max(size for size in tried if size == 0 or self.bytes_of(size) <= memory)


def check_replay_fits(
    settings: ModelSettings, total: int, env: VecEnv, memory: int | None = None
) -> None:
    """Refuse a replay buffer that will not fit into memory once the training has filled it.

    :param total: environment steps of the training.
    :param memory: the machine's memory in bytes. None means: measure this machine.
    :raises ReplayTooLargeError: naming `buffer_size`.
    """
    size = buffer_size(settings)
    if size is None:
        return
    kwargs = settings.model_kwargs
    her = "Her" in str(kwargs.get("replay_buffer_class"))
    row = transition_bytes(env.observation_space, env.action_space, her=her)
    needs = ReplayNeeds(row, INFOS if her else 0, total)

    available = machine_memory() if memory is None else memory
    longest = (physical_memory() if memory is None else memory) or sys.maxsize
    array = _largest_part(env.observation_space)
    if available is None or (needs.bytes_of(size) + REST <= available and size * array <= longest):
        return
    # Linux refuses to map an array that is larger than the memory, even if no page of it is used.
    needed = needs.bytes_of(size) if size * array <= longest else size * row
    raise ReplayTooLargeError(
        f"hyperparameters.buffer_size: {size} transitions of {row + needs.fixed} bytes need "
        f"{needed / GIB:.1f} GiB in {total} steps, but this machine has {available / GIB:.1f} GiB "
        f"of memory, of which everything else needs {REST / GIB:.1f} GiB",
        min(needs.largest(available - REST), longest // array),
    )


def buffer_size(settings: ModelSettings) -> int | None:
    """Return how many transitions the replay buffer holds; None if the algorithm has no buffer."""
    size = settings.model_kwargs.get("buffer_size", settings.algorithm.settings.get("buffer_size"))
    return None if size is None else int(size)


def transition_bytes(
    observations: spaces.Space[Any], actions: spaces.Space[Any], *, her: bool = False
) -> int:
    """Return how many bytes SB3's buffers need for one transition."""
    kind = np.dtype(np.float32) if actions.dtype == np.float64 else np.dtype(actions.dtype)
    return (
        2 * _observation_bytes(observations)
        + get_action_dim(actions) * kind.itemsize
        + FLAGS
        + (HER if her else 0)
    )


def machine_memory() -> int | None:
    """Return the bytes of memory that the machine, or its container, may use.

    :return: None if the platform does not state its memory.
    """
    physical = physical_memory()
    if physical is None:
        return None
    texts = [_text(Path(path)) for path in LIMITS]
    return min([physical, *(int(text) for text in texts if text.isdigit())])


def physical_memory() -> int | None:
    """Return the machine's memory in bytes; None if the platform does not state it."""
    return (
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if "SC_PHYS_PAGES" in os.sysconf_names
        else None
    )


def _largest_part(space: spaces.Space[Any]) -> int:
    """Return the bytes that one observation takes in the largest array of the buffer."""
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
