"""A replay buffer's chunks have the bytes of safetensors, without its copies."""

import io

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from rl_trainer.checkpointing.chunk_files import TYPES, Array, decode, encode


@st.composite
def columns(draw: st.DrawFn) -> dict[str, Array]:
    """Generate columns of any type and shape with the same number of rows."""
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
    """Split the rows in two parts, as at the end of a ring buffer."""
    return {
        name: [array[:at], array[at:]] if 0 < at < len(array) else [array]
        for name, array in arrays.items()
    }


@given(columns(), st.integers(0, 9))
def test_the_bytes_are_the_librarys(arrays: dict[str, Array], at: int) -> None:
    """Any reader of safetensors reads our chunk, and ours reads the library's."""
    data = b"".join(encode(cut(arrays, at)))
    assert data == save_safetensors(arrays)
    assert all(
        np.array_equal(load_safetensors(data)[name], array) for name, array in arrays.items()
    )


@given(columns(), st.integers(0, 9), st.integers(0, 8))
def test_rows_are_read_back_except_skipped_ones(
    arrays: dict[str, Array], at: int, skipped: int
) -> None:
    """Rows that were overwritten later are skipped."""
    rows = len(next(iter(arrays.values())))
    skipped = min(skipped, rows)
    places = {name: np.zeros_like(array[skipped:]) for name, array in arrays.items()}
    decode(io.BytesIO(save_safetensors(arrays)), cut(places, at), skipped)
    assert all(np.array_equal(places[name], array[skipped:]) for name, array in arrays.items())


@given(columns(), st.data())
def test_damaged_bytes_are_read_or_raise_a_value_error(
    arrays: dict[str, Array], data: st.DataObject
) -> None:
    """Damaged bytes raise a ValueError or are read, and then the digest finds the damage."""
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
