"""Replay buffers in append-only chunks: a checkpoint writes the transitions of its segment, not the
whole buffer.

A chunk is named by its content; the manifest lists the chunks that together hold the buffer, oldest
first. At a segment's end every episode is closed, so no later step reaches back into a chunk before
it overwrites it.
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
from rl_trainer.checkpointing.chunk_files import Array, decode, encode

#: Lets a chunk that is stored be read, and verifies what was read.
ReadChunk = Callable[[Callable[[Reader], None]], None]
#: A chunk's digest, and what reads it.
Stored = tuple[str, ReadChunk]
#: The arrays of SB3's buffers that have one row a step, each where a buffer has it.
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
#: A segment's rows are cut into chunks of at most so many bytes: S3 takes 5 GiB at once, and a lost
#: connection loses one of them.
CHUNK_BYTES = 128 << 20


@dataclass(frozen=True)
class Chunk:
    """Some rows of a buffer.

    :param pieces: its bytes, mostly the buffer's own memory, while they are not known to be stored;
        empty afterwards.
    :param read: reads a chunk that is stored; None for one that this process made.
    """

    sha256: str
    rows: int
    pieces: Pieces = ()
    read: ReadChunk | None = None

    def load(self, into: Callable[[Reader], None]) -> None:
        """Let its bytes be read.
        :raises LifecycleError: if what is stored is not what was recorded.
        """
        if self.read is not None:
            self.read(into)
        else:
            into(PiecesReader(self.pieces))


@dataclass(frozen=True)
class ReplayMemory:
    """A buffer between two segments: the live object, if this process has it, and the chunks that
    make it up.
    """

    chunks: tuple[Chunk, ...]
    position: int
    full: bool
    live: Any = None

    @property
    def free_rows(self) -> int | None:
        """How many rows the live buffer takes before it comes round to one that is not known to be
        stored; None: any number.
        """
        unsaved = sum(chunk.rows for chunk in self.chunks if chunk.pieces)
        return (
            max(self.live.buffer_size - unsaved, 0) if unsaved and self.live is not None else None
        )

    def to_values(self) -> dict[str, Any]:
        """What the checkpoint's JSON keeps beside the chunks' names."""
        return {
            "rows": [chunk.rows for chunk in self.chunks],
            "position": self.position,
            "full": self.full,
        }

    def without_data(self) -> "ReplayMemory":
        """The same, without its bytes: whoever stores them has them, and the live buffer has the
        rows.
        """
        return dataclasses.replace(
            self, chunks=tuple(Chunk(chunk.sha256, chunk.rows) for chunk in self.chunks)
        )

    @classmethod
    def from_values(cls, values: dict[str, Any], stored: Sequence[Stored]) -> "ReplayMemory":
        """Read it back; the chunks themselves are read when a buffer is filled, one after another.

        :param stored: the digest of each chunk, and what reads it, oldest first; equal chunks have
            equal digests.
        """
        chunks = tuple(
            Chunk(sha256, rows, read=read)
            for rows, (sha256, read) in zip(values["rows"], stored, strict=True)
        )
        return cls(chunks, values["position"], values["full"])


def close_episodes(buffer: Any) -> None:
    """Mark the last transition of every environment as truncated, its bootstrap kept: the next
    segment begins with resets.

    n-step returns end there, and HER gets the unfinished episodes as they are.
    """
    if isinstance(buffer, HerReplayBuffer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns that it does what it was asked for
            buffer.truncate_last_trajectory()
    elif buffer.full or buffer.pos:
        last = buffer.pos - 1
        buffer.timeouts[last] = np.logical_or(
            buffer.timeouts[last], np.logical_not(buffer.dones[last])
        )


def grow(before: ReplayMemory | None, buffer: Any, steps: int) -> ReplayMemory:
    """Cut the newest rows of a buffer into chunks, and forget chunks that were overwritten.

    Their bytes are the buffer's own, and they are stored beside the next segment's training, which
    must wait before it adds more than :attr:`ReplayMemory.free_rows`. HER forgets no more than an
    episode whose first row is overwritten, and none reaches over a segment's end.

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
    """Give a new model the buffer: the live one, or an own one filled from the chunks."""
    if memory.live is None:
        fill(model.replay_buffer, memory)
        return
    model.replay_buffer = memory.live
    if isinstance(memory.live, HerReplayBuffer):
        memory.live.env = model.env


def fill(buffer: Any, memory: ReplayMemory) -> None:
    """Read the chunks' rows to where they were, in the buffer's own memory."""
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
    """Do what HER did when it overwrote an episode's beginning: the rest of it must not be
    sampled.
    """
    buffer._current_ep_start = np.full(buffer.n_envs, buffer.pos, np.int64)
    if not buffer.full:
        return
    for env in range(buffer.n_envs):
        start, length = buffer.ep_start[buffer.pos, env], buffer.ep_length[buffer.pos, env]
        rest = length - (buffer.pos - start) % buffer.buffer_size
        if length > 0 and start != buffer.pos:
            buffer.ep_length[np.arange(buffer.pos, buffer.pos + rest) % buffer.buffer_size, env] = 0


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
    """Where so many rows lie in a buffer that begins anew at its end.

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
