"""The statistics of VecNormalize in shards.

At the beginning of a rollout every shard has the same statistics. Each shard then changes its own
copy, step by step, as VecNormalize does, and keeps the moments of its new data. The learner adds
these moments to the statistics in the order of the shards. If it merged the copies themselves, it
would count the data of earlier rollouts once for each shard.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from rl_trainer.checkpointing.model_state import Arrays, arrays_of, moments_of, scalar_or_array

#: Prefix of the names of the moments of a rollout's new data.
NEW_DATA = "new_data/"
MOMENTS = ("mean", "var", "count")


class RecordingMoments(RunningMeanStd):
    """Running statistics that also keep the moments of the data since :meth:`forget`."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape=shape)
        self.new_data = RunningMeanStd(epsilon=0.0, shape=shape)

    def forget(self) -> None:
        """Begin a rollout, which has no data yet."""
        self.new_data = RunningMeanStd(epsilon=0.0, shape=np.shape(self.mean))

    def update_from_moments(
        self,
        batch_mean: np.ndarray[Any, Any],
        batch_var: np.ndarray[Any, Any],
        batch_count: float,
    ) -> None:
        """Add data, by its moments."""
        super().update_from_moments(batch_mean, batch_var, batch_count)
        self.new_data.update_from_moments(batch_mean, batch_var, batch_count)


class ShardMoments:
    """The statistics of a shard's VecNormalize, which record the new data.

    :param statistics: None if the environments are not normalized.
    """

    def __init__(self, statistics: VecNormalize | None) -> None:
        self._moments: dict[str, RecordingMoments] = {}
        if statistics is None:
            return
        changed: Any = statistics  # `obs_rms` has one of two types
        observed = getattr(changed, "obs_rms", None)
        if isinstance(observed, dict):
            changed.obs_rms = {key: _recording(one) for key, one in observed.items()}
        elif observed is not None:
            changed.obs_rms = _recording(observed)
        changed.ret_rms = _recording(changed.ret_rms)
        self._moments = {
            name: one
            for name, one in moments_of(statistics).items()
            if isinstance(one, RecordingMoments)
        }

    def forget(self) -> None:
        """Begin a rollout, which has no data yet."""
        for moments in self._moments.values():
            moments.forget()

    def new_data(self) -> Arrays:
        """Return the moments of the data since the rollout began."""
        return arrays_of({name: one.new_data for name, one in self._moments.items()}, NEW_DATA)


def add_new_data(
    statistics: VecNormalize | None, rollout: Mapping[str, np.ndarray[Any, Any]]
) -> None:
    """Add the moments of a shard's new data to the learner's statistics."""
    if statistics is None:
        return
    for name, moments in moments_of(statistics).items():
        mean, var, count = (
            rollout[f"{NEW_DATA}{name}/{part}"] for part in ("mean", "var", "count")
        )
        if count > 0:
            moments.update_from_moments(scalar_or_array(mean), scalar_or_array(var), float(count))


def _recording(moments: RunningMeanStd) -> RecordingMoments:
    return RecordingMoments(np.shape(moments.mean))
