"""The model's own actions on raw observations, with SB3's normalization, stacking and states."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecNormalize

from rl_trainer.onnx_export.memory import FrameStack

Observations = np.ndarray[Any, Any] | dict[str, np.ndarray[Any, Any]]


class Reference:
    """Runs a model on several episodes at once, from their first steps on."""

    def __init__(
        self, model: Any, statistics: VecNormalize | None, stack: FrameStack | None, rows: int
    ) -> None:
        self.model, self.statistics, self.stack = model, statistics, stack
        self._state: Any = None
        self._starts = np.ones(rows, bool)
        self._older: np.ndarray[Any, Any] | None = None

    def act(
        self, observations: Observations, masks: np.ndarray[Any, Any] | None = None
    ) -> np.ndarray[Any, Any]:
        """Return SB3's deterministic actions, one per row.

        :param masks: which actions are allowed, for a policy that was trained under masks.
        """
        ready: Any = (
            self.statistics.normalize_obs(observations)
            if self.statistics is not None
            else observations
        )
        actions, self._state = self.model.predict(
            self._stacked(ready),
            state=self._state,
            episode_start=self._starts,
            deterministic=True,
            **({} if masks is None else {"action_masks": masks}),
        )
        self._starts = np.zeros(len(self._starts), bool)
        return np.asarray(actions)

    def _stacked(self, newest: Any) -> Any:
        if self.stack is None:
            return newest
        if self._older is None:
            self._older = np.zeros((len(newest), *self.stack.older_shape), newest.dtype)
        axis, size = self.stack.axis + 1, self.stack.shape[self.stack.axis]
        stacked = np.concatenate([self._older, newest], axis=axis)
        self._older = np.take(stacked, range(size, self.stack.n * size), axis=axis)
        return stacked


def rows_of(observations: Observations) -> int:
    """Return the number of observations."""
    return (
        len(next(iter(observations.values())))
        if isinstance(observations, Mapping)
        else len(observations)
    )
