"""Replay buffers in append-only chunks: a checkpoint writes the transitions of its segment, not the whole buffer.

A chunk is named by its content; the manifest lists the chunks that together hold the buffer, oldest first. What a chunk
holds is never changed afterwards: at a segment's end every episode is closed, so no later step reaches back into it.
"""

import dataclasses
import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

Array = np.ndarray[Any, Any]
#: A chunk's digest, and what reads its bytes.
Stored = tuple[str, Callable[[], bytes]]
#: The arrays of SB3's buffers that have one row a step, each where a buffer has it.
COLUMNS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts", "ep_start", "ep_length")


@dataclass(frozen=True)
class Chunk:
    """Some rows of a buffer.

    :param data: their bytes, while they are not known to be stored; empty afterwards.
    :param read: reads the bytes of a chunk that is stored; None for one that this process made.
    """

    sha256: str
    rows: int
    data: bytes = b""
    read: Callable[[], bytes] | None = None

    def load(self) -> "dict[str, Array]":
        """Give the rows by column. :raises LifecycleError: if what is stored is not what was recorded."""
        return load_safetensors(self.read() if self.read is not None else self.data)


@dataclass(frozen=True)
class ReplayMemory:
    """A buffer between two segments: the live object, if this process has it, and the chunks that make it up."""

    chunks: tuple[Chunk, ...]
    position: int
    full: bool
    live: Any = None

    def to_values(self) -> dict[str, Any]:
        """What the checkpoint's JSON keeps beside the chunks' names."""
        return {"rows": [chunk.rows for chunk in self.chunks], "position": self.position, "full": self.full}

    def without_data(self) -> "ReplayMemory":
        """The same, with no bytes held: whoever stores them has them, and the live buffer has the rows."""
        return dataclasses.replace(self, chunks=tuple(Chunk(chunk.sha256, chunk.rows) for chunk in self.chunks))

    @classmethod
    def from_values(cls, values: dict[str, Any], stored: Sequence[Stored]) -> "ReplayMemory":
        """Read it back; the chunks themselves are read when a buffer is filled, one after another.

        :param stored: the digest of each chunk, and what reads it, oldest first; equal chunks have equal digests.
        """
        chunks = tuple(Chunk(sha256, rows, read=read) for rows, (sha256, read) in zip(values["rows"], stored, strict=True))
        return cls(chunks, values["position"], values["full"])


def close_episodes(buffer: Any) -> None:
    """Mark the last transition of every environment as truncated, its bootstrap kept: the next segment begins with resets.

    n-step returns end there, and HER gets the unfinished episodes as they are.
    """
    if isinstance(buffer, HerReplayBuffer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns that it does what it was asked for
            buffer.truncate_last_trajectory()
    elif buffer.full or buffer.pos:
        last = buffer.pos - 1
        buffer.timeouts[last] = np.logical_or(buffer.timeouts[last], np.logical_not(buffer.dones[last]))


def grow(before: ReplayMemory | None, buffer: Any, steps: int) -> ReplayMemory:
    """Cut the newest rows of a buffer into a chunk, and forget chunks that were overwritten.

    :param steps: how many rows the segment added.
    """
    rows = min(steps, buffer.buffer_size)
    older = tuple(Chunk(chunk.sha256, chunk.rows) for chunk in before.chunks) if before else ()
    newest = (_cut(buffer, rows),) if rows else ()
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
    """Write the chunks' rows to where they were."""
    missing, end = (buffer.buffer_size if memory.full else memory.position), memory.position
    for chunk in reversed(memory.chunks):
        rows = min(chunk.rows, missing)
        places = np.arange(end - rows, end) % buffer.buffer_size
        for name, values in chunk.load().items():
            _column(buffer, name)[places] = values[chunk.rows - rows:]
        missing, end = missing - rows, end - rows
    buffer.pos, buffer.full = memory.position, memory.full
    if isinstance(buffer, HerReplayBuffer):
        _forget_cut_episodes(buffer)


def _forget_cut_episodes(buffer: HerReplayBuffer) -> None:
    """Do what HER did when it overwrote an episode's beginning: the rest of it must not be sampled."""
    buffer._current_ep_start = np.full(buffer.n_envs, buffer.pos, np.int64)
    if not buffer.full:
        return
    for env in range(buffer.n_envs):
        start, length = buffer.ep_start[buffer.pos, env], buffer.ep_length[buffer.pos, env]
        if length > 0 and start != buffer.pos:
            end = start + length if start + length > buffer.pos else start + length + buffer.buffer_size
            buffer.ep_length[np.arange(buffer.pos, end) % buffer.buffer_size, env] = 0


def _cut(buffer: Any, rows: int) -> Chunk:
    places: Any = np.arange(buffer.pos - rows, buffer.pos) % buffer.buffer_size
    if buffer.pos >= rows:
        places = slice(buffer.pos - rows, buffer.pos)  # no copy: a segment's rows may be much of the memory
    data = save_safetensors({name: np.ascontiguousarray(column[places]) for name, column in _columns(buffer).items()})
    return Chunk(hashlib.sha256(data).hexdigest(), rows, data)


def _columns(buffer: Any) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for name in COLUMNS:
        column = getattr(buffer, name, None)
        if isinstance(column, dict):
            found |= {f"{name}/{key}": part for key, part in column.items()}
        elif column is not None:
            found[name] = column
    return found


def _column(buffer: Any, name: str) -> Array:
    name, _, key = name.partition("/")
    column: Any = getattr(buffer, name)
    array: Array = column[key] if key else column
    return array
