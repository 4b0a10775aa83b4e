"""The memory that the trainer shares with its workers: one row for each environment.

Actions go to the workers through it, and observations, rewards and ends of episodes come back.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env.util import obs_space_info

Array = np.ndarray[Any, Any]

#: Every array begins at a multiple of a cache line, so that no two processes write to one line
#: more often than necessary.
ALIGNMENT = 64
#: Bytes of the largest number that an action can have.
LARGEST_ITEM = 8


@dataclass(frozen=True)
class StepLayout:
    """The arrays of the shared memory.

    :param observations: key, shape and type of each part of an observation. As in SB3, the key is
        None if there is only one part.
    :param action_shape: the shape of one action. Its type can change: SB3 passes the actions of
        one space as integers or as floats.
    """

    n_envs: int
    observations: tuple[tuple[Any, tuple[int, ...], np.dtype[Any]], ...]
    action_shape: tuple[int, ...]

    @classmethod
    def of(cls, n_envs: int, observation: spaces.Space[Any], action: spaces.Space[Any]) -> Self:
        """Return the layout for environments with these spaces."""
        keys, shapes, dtypes = obs_space_info(observation)
        parts = tuple((key, tuple(shapes[key]), np.dtype(dtypes[key])) for key in keys)
        return cls(n_envs, parts, tuple(action.shape or ()))

    @property
    def size(self) -> int:
        """The number of bytes of the whole memory."""
        return sum(_padded(self._bytes_of(shape, dtype)) for shape, dtype in self.forms())

    def forms(self) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
        """List the shapes and types of one row: observations, reward, end, action."""
        return [
            *((shape, dtype) for _, shape, dtype in self.observations),
            ((), np.dtype(np.float32)),
            ((), np.dtype(np.bool_)),
            ((*self.action_shape, LARGEST_ITEM), np.dtype(np.uint8)),
        ]

    def _bytes_of(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
        return int(self.n_envs * np.prod(shape, dtype=np.int64) * dtype.itemsize)


class StepMemory:
    """The arrays of a layout, in memory that several processes have.

    :param memory: an object with the layout's number of bytes.
    """

    def __init__(self, layout: StepLayout, memory: Any) -> None:
        self.layout, arrays, offset = layout, [], 0
        for shape, dtype in layout.forms():
            arrays.append(np.ndarray((layout.n_envs, *shape), dtype, memory, offset))
            offset += _padded(arrays[-1].nbytes)
        *parts, self.rewards, self.ends, self._actions = arrays
        self.observations = {
            key: part for (key, _, _), part in zip(layout.observations, parts, strict=True)
        }

    def actions(self, dtype: np.dtype[Any]) -> Array:
        """Return the array of the actions if they have this type."""
        return np.ndarray((self.layout.n_envs, *self.layout.action_shape), dtype, self._actions)

    def rows(self, first: int, end: int) -> tuple[dict[Any, Array], Array, Array]:
        """Return observations, rewards and ends of some environments. These are no copies."""
        parts = {key: part[first:end] for key, part in self.observations.items()}
        return parts, self.rewards[first:end], self.ends[first:end]


def _padded(n_bytes: int) -> int:
    return -(-n_bytes // ALIGNMENT) * ALIGNMENT
