"""The shared memory has room for every form, and no array touches another."""

from typing import Any

import numpy as np
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_trainer.environments.step_memory import ALIGNMENT, StepLayout, StepMemory

SHAPES = st.lists(st.integers(1, 4), max_size=3).map(tuple)
BOXES = st.builds(
    lambda shape, dtype: spaces.Box(0, 1, shape, dtype),
    SHAPES,
    st.sampled_from([np.uint8, np.float16, np.float32, np.float64]),
)
SIMPLE = BOXES | st.builds(spaces.Discrete, st.integers(1, 9)) | st.just(spaces.MultiBinary(3))
OBSERVATIONS = SIMPLE | st.dictionaries(
    st.sampled_from("abcd"), SIMPLE, min_size=1, max_size=4
).map(spaces.Dict)
ACTION_TYPES = st.sampled_from([np.int8, np.int64, np.float32, np.float64])


@settings(deadline=None)
@given(n_envs=st.integers(1, 7), observation=OBSERVATIONS, action=SIMPLE, dtype=ACTION_TYPES)
def test_what_is_written_is_read_and_nothing_else_changes(
    n_envs: int, observation: spaces.Space[Any], action: spaces.Space[Any], dtype: Any
) -> None:
    """Each array is filled with its own byte, through one view, and read through another."""
    layout = StepLayout.of(n_envs, observation, action)
    buffer = bytearray(layout.size)
    written, read = StepMemory(layout, buffer), StepMemory(layout, buffer)
    for number, array in enumerate(_arrays(written, dtype), 1):
        array.reshape(-1).view(np.uint8)[...] = number % 2 if array.dtype == bool else number
    for number, array in enumerate(_arrays(read, dtype), 1):
        expected = number % 2 if array.dtype == bool else number
        assert (array.reshape(-1).view(np.uint8) == expected).all()
        assert array.__array_interface__["data"][0] % array.dtype.itemsize == 0
    assert layout.size % ALIGNMENT == 0


@settings(deadline=None)
@given(n_envs=st.integers(1, 7), observation=OBSERVATIONS, data=st.data())
def test_rows_are_views(n_envs: int, observation: spaces.Space[Any], data: Any) -> None:
    """A worker's rows are those of its environments, in the trainer's arrays."""
    layout = StepLayout.of(n_envs, observation, spaces.Discrete(2))
    memory = StepMemory(layout, bytearray(layout.size))
    first = data.draw(st.integers(0, n_envs - 1))
    end = data.draw(st.integers(first + 1, n_envs))
    parts, rewards, ends = memory.rows(first, end)
    rewards[...], ends[...] = 1.5, True
    for part in parts.values():
        part[...] = 1
        assert part.flags.c_contiguous
    inside = np.arange(n_envs)
    chosen = (inside >= first) & (inside < end)
    assert ((memory.rewards == 1.5) == chosen).all()
    assert (memory.ends == chosen).all()
    for whole in memory.observations.values():
        assert ((whole.reshape(n_envs, -1) == 1).all(axis=1) == chosen).all()


def _arrays(memory: StepMemory, dtype: Any) -> list[np.ndarray[Any, Any]]:
    parts = list(memory.observations.values())
    return [*parts, memory.rewards, memory.ends, memory.actions(np.dtype(dtype))]
