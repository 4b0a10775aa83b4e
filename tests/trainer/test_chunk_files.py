"""A replay buffer's chunks: the library's bytes, without its copies."""

import hashlib
import io
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors
from stable_baselines3.common.buffers import ReplayBuffer

from rl_lifecycle.pieces import Reader
from rl_trainer.chunk_files import TYPES, Array, decode, encode
from rl_trainer.replay_memory import ReplayMemory, fill, grow

NAMES = ("observations", "next_observations", "actions", "rewards")
BOX = spaces.Box(-1, 1, (3,), np.float32)


@st.composite
def columns(draw: st.DrawFn) -> dict[str, Array]:
    """A few columns of any type and form, with as many rows each."""
    rows, rng = draw(st.integers(1, 9)), np.random.default_rng(draw(st.integers(0, 99)))
    names = draw(st.lists(st.text("abc/_é\"", min_size=1, max_size=6), min_size=1, max_size=4, unique=True))
    return {name: rng.integers(0, 2, (rows, *draw(st.lists(st.integers(1, 3), max_size=2)))).astype(draw(st.sampled_from(sorted(TYPES))))
            for name in names}


def cut(arrays: dict[str, Array], at: int) -> dict[str, list[Array]]:
    """The same rows in two parts, as where a buffer begins anew."""
    return {name: [array[:at], array[at:]] if 0 < at < len(array) else [array] for name, array in arrays.items()}


@given(columns(), st.integers(0, 9))
def test_the_bytes_are_the_librarys(arrays: dict[str, Array], at: int) -> None:
    """Whatever knows safetensors reads a chunk, and a chunk that the library wrote is read here."""
    data = b"".join(encode(cut(arrays, at)))
    assert data == save_safetensors(arrays)
    assert all(np.array_equal(load_safetensors(data)[name], array) for name, array in arrays.items())


@given(columns(), st.integers(0, 9), st.integers(0, 8))
def test_rows_are_read_back_into_place_but_for_the_first_ones(arrays: dict[str, Array], at: int, skipped: int) -> None:
    """Rows that were overwritten since go nowhere."""
    rows = len(next(iter(arrays.values())))
    skipped = min(skipped, rows)
    places = {name: np.zeros_like(array[skipped:]) for name, array in arrays.items()}
    decode(io.BytesIO(save_safetensors(arrays)), cut(places, at), skipped)
    assert all(np.array_equal(places[name], array[skipped:]) for name, array in arrays.items())


@given(columns(), st.data())
def test_damage_is_an_error_of_one_kind(arrays: dict[str, Array], data: st.DataObject) -> None:
    """Cut short, overwritten or replaced, bytes are read or refused with a ValueError: the digest decides about the rest."""
    whole = save_safetensors(arrays)
    start = data.draw(st.integers(0, len(whole) - 1))
    noise = data.draw(st.binary(max_size=20))
    damaged = whole[:start] + noise + (whole[start + len(noise):] if noise else b"")
    try:
        decode(io.BytesIO(damaged), {name: [np.zeros_like(array)] for name, array in arrays.items()})
    except ValueError:
        return
    assert len(damaged) >= len(whole)


def add(buffer: ReplayBuffer, steps: int, rng: np.random.Generator) -> None:
    """Add random transitions."""
    for _ in range(steps):
        values: list[Any] = [rng.standard_normal((1, 3)), rng.standard_normal((1, 3)), rng.standard_normal((1, 3)), rng.standard_normal(1)]
        buffer.add(*values, np.zeros(1), [{}])


@pytest.mark.parametrize("size", [100, 40])
def test_a_chunk_is_what_it_was_while_the_next_segment_trains(size: int) -> None:
    """Its bytes are stored beside the next segment's training, which is up to half as long again and may overwrite a short buffer."""
    buffer, rng, memory = ReplayBuffer(size, BOX, BOX), np.random.default_rng(0), None
    stored: dict[str, bytes] = {}
    for _ in range(12):
        add(buffer, 30, rng)
        memory = grow(memory, buffer, 30)
        newest, before = memory.chunks[-1], {name: getattr(buffer, name).copy() for name in NAMES}
        add(buffer, 45, rng)  # as the next segment would
        stored[newest.sha256] = b"".join(newest.pieces)
        assert hashlib.sha256(stored[newest.sha256]).hexdigest() == newest.sha256
        buffer.pos, buffer.full = memory.position, memory.full
        for name, array in before.items():
            getattr(buffer, name)[...] = array
    chunks = [(chunk.sha256, partial(read, stored[chunk.sha256])) for chunk in memory.chunks]
    again = ReplayBuffer(size, BOX, BOX)
    fill(again, ReplayMemory.from_values(memory.to_values(), chunks))
    assert (again.pos, again.full) == (buffer.pos, buffer.full)
    assert all(np.array_equal(getattr(again, name), getattr(buffer, name)) for name in NAMES)


def read(data: bytes, into: Callable[[Reader], None]) -> None:
    """Let bytes be read."""
    into(io.BytesIO(data))
