"""A rollout on the training's device, always in the same memory, so that a recorded update finds it."""

from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer

Observations = torch.Tensor | dict[str, torch.Tensor]


class Rows(NamedTuple):
    """Rows of a rollout, as `PPO.train` gets them from SB3's buffer."""

    observations: Observations
    actions: torch.Tensor
    old_values: torch.Tensor
    old_log_prob: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor


class StaticRollout:
    """All rows of a rollout. They are copied to the device once for all epochs; SB3 copies every minibatch.

    :param buffer: gives shapes and types.
    """

    def __init__(self, buffer: RolloutBuffer, device: torch.device) -> None:
        self._discrete = isinstance(buffer.action_space, spaces.Discrete)
        self._columns = {
            name: torch.zeros(column.shape, dtype=torch.from_numpy(column[:1]).dtype, device=device)
            for name, column in self._host_columns(buffer).items()
        }

    def load(self, buffer: RolloutBuffer) -> None:
        """Copy a full buffer's rows into place. The buffer stays as it is."""
        for name, column in self._host_columns(buffer).items():
            self._columns[name].copy_(torch.from_numpy(column))

    def select(self, indices: torch.Tensor) -> Rows:
        """Gather rows. :param indices: on the device, in SB3's order: one environment after another."""
        chosen = {name: column.index_select(0, indices) for name, column in self._columns.items()}
        keyed = {
            name.removeprefix(_KEYED): column
            for name, column in chosen.items()
            if name.startswith(_KEYED)
        }
        return Rows(
            keyed or chosen["observations"], *(chosen[name] for name in ("actions", *_SCALARS))
        )

    def _host_columns(self, buffer: RolloutBuffer) -> dict[str, np.ndarray[Any, Any]]:
        observations: Any = buffer.observations
        named = (
            {f"{_KEYED}{key}": rows_of(buffer, part) for key, part in observations.items()}
            if isinstance(observations, dict)
            else {"observations": rows_of(buffer, observations)}
        )
        actions = rows_of(buffer, buffer.actions).astype(np.float32, copy=False)
        scalars = {name: rows_of(buffer, getattr(buffer, name)).reshape(-1) for name in _SCALARS}
        return {
            **named,
            "actions": actions.reshape(-1).astype(np.int64) if self._discrete else actions,
            **scalars,
        }


#: What stands before the key of an observation that is a dictionary.
_KEYED = "observations/"
#: SB3's columns of one number a row, in the order of :class:`Rows`.
_SCALARS = ("values", "log_probs", "advantages", "returns")


def rows_of(buffer: RolloutBuffer, column: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A column's rows in SB3's order, one environment after another. A buffer that stock SB3 was trained on lies so already."""
    return column if buffer.generator_ready else buffer.swap_and_flatten(column)
