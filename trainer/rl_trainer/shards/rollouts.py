"""A rollout as named arrays: read from the buffer of a shard, written to that of the learner."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rl_trainer.checkpointing.model_state import Arrays

#: Column of SB3's and sb3-contrib's rollout buffers → its axis of environments. A buffer has the
#: columns of its class. `observations` may be a dictionary.
COLUMNS = {
    "observations": 1,
    "actions": 1,
    "rewards": 1,
    "returns": 1,
    "episode_starts": 1,
    "values": 1,
    "log_probs": 1,
    "advantages": 1,
    "action_masks": 1,
    "hidden_states_pi": 2,
    "cell_states_pi": 2,
    "hidden_states_vf": 2,
    "cell_states_vf": 2,
}


def read_rollout(buffer: Any) -> Arrays:
    """Return the columns of a full buffer by name, without copies."""
    arrays: Arrays = {}
    for name in COLUMNS:
        column = getattr(buffer, name, None)
        if isinstance(column, dict):
            arrays |= {f"{name}/{key}": part for key, part in column.items()}
        elif column is not None:
            arrays[name] = column
    return arrays


def write_rollouts(buffer: Any, rollouts: Sequence[Mapping[str, np.ndarray[Any, Any]]]) -> None:
    """Fill a buffer with the rollouts of all shards, in their order."""
    for name, axis in COLUMNS.items():
        column = getattr(buffer, name, None)
        if isinstance(column, dict):
            joined: Any = {key: _joined(rollouts, f"{name}/{key}", axis) for key in column}
        elif column is not None:
            joined = _joined(rollouts, name, axis)
        else:
            continue
        setattr(buffer, name, joined)
    buffer.pos, buffer.full, buffer.generator_ready = buffer.buffer_size, True, False


def _joined(
    rollouts: Sequence[Mapping[str, np.ndarray[Any, Any]]], name: str, axis: int
) -> np.ndarray[Any, Any]:
    return np.concatenate([rollout[name] for rollout in rollouts], axis=axis)
