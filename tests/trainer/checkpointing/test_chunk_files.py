"""A replay buffer's chunks: the library's bytes, without its copies."""

import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from rl_trainer.checkpointing.chunk_files import TYPES, Array, decode, encode


@st.composite
def columns(draw: st.DrawFn) -> dict[str, Array]:
    """A few columns of any type and form, with as many rows each."""
    rows, rng = draw(st.integers(1, 9)), np.random.default_rng(draw(st.integers(0, 99)))
    names = draw(
        st.lists(st.text('abc/_é"', min_size=1, max_size=6), min_size=1, max_size=4, unique=True)
    )
    return {
        name: rng.integers(0, 2, (rows, *draw(st.lists(st.integers(1, 3), max_size=2)))).astype(
            draw(st.sampled_from(sorted(TYPES)))
        )
        for name in names
    }


def cut(arrays: dict[str, Array], at: int) -> dict[str, list[Array]]:
    """The same rows in two parts, as where a buffer begins anew."""
    return {
        name: [array[:at], array[at:]] if 0 < at < len(array) else [array]
        for name, array in arrays.items()
    }


@given(columns(), st.integers(0, 9))
def test_the_bytes_are_the_librarys(arrays: dict[str, Array], at: int) -> None:
    """Whatever knows safetensors reads a chunk, and a chunk that the library wrote is read here."""
    data = b"".join(encode(cut(arrays, at)))
    assert data == save_safetensors(arrays)
    assert all(
        np.array_equal(load_safetensors(data)[name], array) for name, array in arrays.items()
    )


@given(columns(), st.integers(0, 9), st.integers(0, 8))
def test_rows_are_read_back_into_place_but_for_the_first_ones(
    arrays: dict[str, Array], at: int, skipped: int
) -> None:
    """Rows that were overwritten since go nowhere."""
    rows = len(next(iter(arrays.values())))
    skipped = min(skipped, rows)
    places = {name: np.zeros_like(array[skipped:]) for name, array in arrays.items()}
    decode(io.BytesIO(save_safetensors(arrays)), cut(places, at), skipped)
    assert all(np.array_equal(places[name], array[skipped:]) for name, array in arrays.items())


@given(columns(), st.data())
def test_damage_is_an_error_of_one_kind(arrays: dict[str, Array], data: st.DataObject) -> None:
    """Cut short, overwritten or replaced, bytes are read or refused with a ValueError: the digest
    decides about the rest.
    """
    whole = save_safetensors(arrays)
    start = data.draw(st.integers(0, len(whole) - 1))
    noise = data.draw(st.binary(max_size=20))
    damaged = whole[:start] + noise + (whole[start + len(noise) :] if noise else b"")
    try:
        decode(
            io.BytesIO(damaged), {name: [np.zeros_like(array)] for name, array in arrays.items()}
        )
    except ValueError:
        return
    assert len(damaged) >= len(whole)
