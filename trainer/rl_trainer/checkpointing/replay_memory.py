"""Replay buffers in append-only chunks: a checkpoint stores only the transitions of its segment.

A chunk is named by its content. The manifest lists the chunks that together hold the buffer, oldest
first. Every episode is closed at the end of a segment. So a chunk does not change until
a later step overwrites its rows.
"""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from rl_lifecycle.storage.pieces import Pieces, PiecesReader, Reader, digest_of
from rl_trainer.checkpointing.chain import ReadChunk, StoredChunk
from rl_trainer.checkpointing.chunk_files import Array, decode, encode

#: The arrays of SB3's buffers with one row per step. Not every buffer has all of them.
COLUMNS = (
    "observations",
    "next_observations",
    "actions",
    "rewards",
    "dones",
    "timeouts",
    "ep_start",
    "ep_length",
)
#: The largest size of a chunk, in bytes. S3 takes at most 5 GiB in one request, and a lost
#: connection costs only one chunk.
CHUNK_BYTES = 128 << 20


@dataclass(frozen=True)
class Chunk:
    """Some consecutive rows of a buffer.

    :param pieces: the bytes of the chunk, mostly the buffer's own memory, until the chunk is
        known to be stored. Empty afterwards.
    :param read: reads a stored chunk; None for a chunk that this process made.
    """

    sha256: str
    rows: int
    pieces: Pieces = ()
    read: ReadChunk | None = None

    def load(self, into: Callable[[Reader], None]) -> None:
        """Pass the bytes to a function that reads them.

        :raises LifecycleError: if the stored bytes do not have the recorded digest.
        """
        if self.read is not None:
            self.read(into)
        else:
            into(PiecesReader(self.pieces))


@dataclass(frozen=True)
class ReplayMemory:
    """A buffer between two segments: its chunks, and the live buffer if this process has it."""

    chunks: tuple[Chunk, ...]
    position: int
    full: bool
    live: Any = None

    @property
    def free_rows(self) -> int | None:
        """How many rows the live buffer can take before it overwrites a row that is not yet stored.

        None means any number.
        """
        unsaved = sum(chunk.rows for chunk in self.chunks if chunk.pieces)
        return (
            max(self.live.buffer_size - unsaved, 0) if unsaved and self.live is not None else None
        )

    def to_values(self) -> dict[str, Any]:
        """Return the values that the checkpoint's JSON holds beside the names of the chunks."""
        return {
            "rows": [chunk.rows for chunk in self.chunks],
            "position": self.position,
            "full": self.full,
        }

    def without_data(self) -> "ReplayMemory":
        """Return a copy without bytes, for the next segment.

        The job that stores the chunks holds the bytes, and the live buffer holds the rows.
        """
        return dataclasses.replace(
            self, chunks=tuple(Chunk(chunk.sha256, chunk.rows) for chunk in self.chunks)
        )

    @classmethod
    def from_values(cls, values: dict[str, Any], stored: Sequence[StoredChunk]) -> "ReplayMemory":
        """Read it from a checkpoint. The chunks are read later, when a buffer is filled.

        :param stored: digest and read function of each chunk, oldest first. Equal chunks have equal
            digests.
        """
        chunks = tuple(
            Chunk(sha256, rows, read=read)
            for rows, (sha256, read) in zip(values["rows"], stored, strict=True)
        )
        return cls(chunks, values["position"], values["full"])


def close_episodes(buffer: Any) -> None:
    """Mark the last transition of every environment as truncated, but keep its bootstrap value.

    The next segment begins with resets. n-step returns end at this transition. HER keeps unfinished
    episodes as they are.
    """
    if isinstance(buffer, HerReplayBuffer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # HER warns about the truncation, which is wanted here
            buffer.truncate_last_trajectory()
    elif buffer.full or buffer.pos:
        last = buffer.pos - 1
        buffer.timeouts[last] = np.logical_or(
            buffer.timeouts[last], np.logical_not(buffer.dones[last])
        )


def grow(before: ReplayMemory | None, buffer: Any, steps: int) -> ReplayMemory:
    """Cut the newest rows of a buffer into chunks, and drop chunks that were overwritten.

    The chunks share the buffer's memory, and they are stored while the next segment trains. That
    segment must wait before it adds more than :attr:`ReplayMemory.free_rows`. HER drops an episode
    if its first row is overwritten. This is at most one, because no episode crosses a segment's
    end.

    :param steps: how many rows the segment added.
    """
    older = tuple(Chunk(chunk.sha256, chunk.rows) for chunk in before.chunks) if before else ()
    newest = _cut(buffer, min(steps, buffer.buffer_size))
    kept: list[Chunk] = []
    missing = buffer.buffer_size if buffer.full else buffer.pos
    for chunk in reversed((*older, *newest)):
        if missing <= 0:
            break
        kept.insert(0, chunk)
        missing -= chunk.rows
    return ReplayMemory(tuple(kept), buffer.pos, buffer.full, buffer)


def attach(model: Any, memory: ReplayMemory) -> None:
    """Give a new model its buffer: the live buffer, or a new buffer filled from the chunks."""
    if memory.live is None:
        fill(model.replay_buffer, memory)
        return
    model.replay_buffer = memory.live
    if isinstance(memory.live, HerReplayBuffer):
        memory.live.env = model.env


def fill(buffer: Any, memory: ReplayMemory) -> None:
    """Read the chunks into the memory of a buffer, each row to its old position."""
    missing, end = (buffer.buffer_size if memory.full else memory.position), memory.position
    for chunk in reversed(memory.chunks):
        rows = min(chunk.rows, missing)
        places = _places(end - rows, rows, buffer.buffer_size)
        columns = {
            name: [column[place] for place in places] for name, column in _columns(buffer).items()
        }
        chunk.load(partial(decode, columns=columns, skipped=chunk.rows - rows))
        missing, end = missing - rows, end - rows
    buffer.pos, buffer.full = memory.position, memory.full
    if isinstance(buffer, HerReplayBuffer):
        _forget_cut_episodes(buffer)


def _forget_cut_episodes(buffer: HerReplayBuffer) -> None:
    """Exclude an episode from sampling if its beginning was overwritten, as HER does."""
    buffer._current_ep_start = np.full(buffer.n_envs, buffer.pos, np.int64)
    if not buffer.full:
        return
    for env in range(buffer.n_envs):
        start, length = buffer.ep_start[buffer.pos, env], buffer.ep_length[buffer.pos, env]
        rest = length - (buffer.pos - start) % buffer.buffer_size
        if length > 0 and start != buffer.pos:
            rows = np.arange(buffer.pos, buffer.pos + rest) % buffer.buffer_size
            buffer.ep_length[rows, env] = 0


def _cut(buffer: Any, rows: int) -> tuple[Chunk, ...]:
    """Describe the newest rows as chunks, oldest first."""
    columns = _columns(buffer)
    row_bytes = sum(column.nbytes // len(column) for column in columns.values())
    most = max(1, CHUNK_BYTES // row_bytes)
    return tuple(
        _chunk(columns, buffer.pos - left, min(most, left), buffer.buffer_size)
        for left in range(rows, 0, -most)
    )


def _chunk(columns: dict[str, Array], start: int, rows: int, size: int) -> Chunk:
    places = _places(start, rows, size)
    pieces = encode({name: [column[place] for place in places] for name, column in columns.items()})
    return Chunk(digest_of(pieces), rows, pieces)


def _places(start: int, rows: int, size: int) -> tuple[slice, ...]:
    """Return the slices of consecutive rows in a ring buffer.

    >>> _places(7, 2, 10), _places(-2, 5, 10)
    ((slice(7, 9, None),), (slice(8, 10, None), slice(0, 3, None)))
    """
    start %= size
    behind = start + rows - size
    return (slice(start, start + rows),) if behind <= 0 else (slice(start, size), slice(0, behind))


def _columns(buffer: Any) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for name in COLUMNS:
        column = getattr(buffer, name, None)
        if isinstance(column, dict):
            found |= {f"{name}/{key}": part for key, part in column.items()}
        elif column is not None:
            found[name] = column
    return found
