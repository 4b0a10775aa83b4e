"""The episodes that end during a rollout, as arrays in the order of steps and environments."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from rl_trainer.checkpointing.model_state import Arrays

#: Prefix of the names of these arrays.
EPISODES = "episodes/"
#: Name of a column → the type of its numbers. `success` is NaN if the environment does not say.
COLUMNS: dict[str, type[Any]] = {
    "step": np.int64,
    "env": np.int64,
    "return": np.float64,
    "length": np.int64,
    "success": np.float64,
}


class EndedEpisode(NamedTuple):
    """An episode that has ended, as SB3's monitor reports it.

    :param step: the step of the rollout.
    :param env: the environment, counted over all shards.
    """

    step: int
    env: int
    episode_return: float
    length: int
    success: float


class EpisodeRecorder(BaseCallback):
    """The callback of a shard's rollout: records the episodes that end.

    :param first_env: the shard's first environment, counted over all shards.
    :param on_step: called after each step with its number of environment steps.
    """

    def __init__(self, first_env: int, on_step: Callable[[int], None]) -> None:
        super().__init__()
        self._first_env, self._call = first_env, on_step
        self._episodes: list[EndedEpisode] = []

    def _on_step(self) -> bool:
        infos: list[dict[str, Any]] = self.locals["infos"]
        for index, info in enumerate(infos):
            episode = info.get("episode")
            if episode is not None:
                success = info.get("is_success")
                self._episodes.append(
                    EndedEpisode(
                        self.n_calls - 1,
                        self._first_env + index,
                        float(episode["r"]),
                        int(episode["l"]),
                        float("nan") if success is None else float(success),
                    )
                )
        self._call(len(infos))
        return True

    def take(self) -> Arrays:
        """Return the episodes as arrays, and forget what SB3 left here."""
        self.locals, self.globals = {}, {}
        return {
            f"{EPISODES}{name}": np.array(column, COLUMNS[name])
            for name, column in zip(
                COLUMNS,
                zip(*self._episodes, strict=True) if self._episodes else [()] * len(COLUMNS),
                strict=True,
            )
        }


def in_order(rollouts: Sequence[Mapping[str, np.ndarray[Any, Any]]]) -> list[EndedEpisode]:
    """Return the episodes of all shards, in the order of steps, then of environments."""
    columns = [
        np.concatenate([rollout[f"{EPISODES}{name}"] for rollout in rollouts]).tolist()
        for name in COLUMNS
    ]
    return sorted(map(EndedEpisode._make, zip(*columns, strict=True)), key=lambda one: one[:2])
