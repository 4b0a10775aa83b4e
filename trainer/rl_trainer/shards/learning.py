"""The learner's side of shards: give out the policy, and put the rollouts together."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from rl_trainer.checkpointing.model_state import Arrays, capture_normalisation, capture_policy
from rl_trainer.environments.sharded_env import ShardedVecEnv
from rl_trainer.shards.collecting import LARGEST_REWARD, ShardCollector, ShardWork
from rl_trainer.shards.episodes import in_order
from rl_trainer.shards.moments import add_new_data
from rl_trainer.shards.rollouts import write_rollouts


class RolloutSource(Protocol):
    """Those who collect the shards of a trial. Who they are changes no byte."""

    def begin(self, segment: int) -> None:
        """Make the environments of a segment."""
        ...

    def collect(
        self, base: Mapping[str, np.ndarray[Any, Any]], on_step: Callable[[int], None]
    ) -> list[Arrays]:
        """Collect one rollout of every shard, in the order of the shards.

        :param on_step: called often, with the environment steps since the last call.
        """
        ...

    def end(self) -> None:
        """Close the environments of the segment. It may be called without :meth:`begin`."""
        ...

    def close(self) -> None:
        """End the collection for good."""
        ...


class LocalCollectors:
    """Collects all shards in this process, one after another."""

    def __init__(self, work: ShardWork) -> None:
        self._work = work
        self._collector: ShardCollector | None = None

    def begin(self, segment: int) -> None:
        """Make the environments of a segment."""
        self._collector = ShardCollector(self._work, segment, range(self._work.n_shards))

    def collect(
        self, base: Mapping[str, np.ndarray[Any, Any]], on_step: Callable[[int], None]
    ) -> list[Arrays]:
        """Collect one rollout of every shard.

        :raises RuntimeError: before :meth:`begin`.
        """
        if self._collector is None:
            raise RuntimeError("the segment has not begun: call begin() first")
        return list(self._collector.collect(base, on_step).values())

    def end(self) -> None:
        """Close the environments of the segment."""
        if self._collector is not None:
            self._collector.close()
            self._collector = None

    def close(self) -> None:
        """Close the environments."""
        self.end()


class ShardedRollouts:
    """Fills a model's rollout buffer from its shards, in place of the model's own method."""

    def __init__(self, model: Any, collectors: RolloutSource) -> None:
        self._model, self._collectors = model, collectors

    def __call__(self, _env: Any, callback: Any, *_args: Any, **_kwargs: Any) -> bool:
        """Collect a rollout. The arguments are those of SB3's `collect_rollouts`.

        :param callback: called at every step of this process. It may raise, but its answer is not
            asked for, because the shards end their rollouts together.
        """
        model = self._model
        before = model.num_timesteps

        def on_step(n_steps: int) -> None:
            model.num_timesteps += n_steps
            callback.on_step()

        callback.on_rollout_start()
        statistics = model.get_vec_normalize_env()
        base = capture_policy(model) | capture_normalisation(statistics)
        rollouts = self._collectors.collect(base, on_step)

        write_rollouts(model.rollout_buffer, rollouts)
        for rollout in rollouts:
            add_new_data(statistics, rollout)
        self._note(rollouts)
        model.num_timesteps = before + model.n_steps * model.n_envs
        callback.on_rollout_end()
        return True

    def _note(self, rollouts: list[Arrays]) -> None:
        """Give SB3's logger and the environments of the model what the shards report."""
        model, env = self._model, self._model.env.unwrapped
        episodes = in_order(rollouts)
        model.ep_info_buffer.extend({"r": one.episode_return, "l": one.length} for one in episodes)
        model.ep_success_buffer.extend(one.success for one in episodes if not np.isnan(one.success))
        if isinstance(env, ShardedVecEnv):
            env.add_episodes([(one.env, one.episode_return, one.length) for one in episodes])
            env.largest_reward = max(float(rollout[LARGEST_REWARD]) for rollout in rollouts)
