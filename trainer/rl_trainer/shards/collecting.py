"""Collect the rollouts of shards.

A shard's rollout is a function of the policy's parameters, the normalisation statistics, the state
of the shard's environments and generators, the trial's seed, the segment and the number of the
shard. Everything is computed from the rows of this shard alone: noise, actions, values,
log-probabilities, bootstraps of truncated and last steps, and advantages. A forward pass of more
rows would give other bits. So it does not matter which process collects a shard, nor which other
shards that process collects.
"""

import copy
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from rl_trainer.checkpointing.digests import POLICY
from rl_trainer.checkpointing.model_state import Arrays, restore_normalisation, tensors_below
from rl_trainer.environments.factory import EnvironmentFactory
from rl_trainer.numpy_path.on_policy import NumpyOnPolicy
from rl_trainer.shards.episodes import EpisodeRecorder
from rl_trainer.shards.generators import ShardGenerators, preserved_generators, seed_generators
from rl_trainer.shards.moments import ShardMoments
from rl_trainer.shards.rollouts import read_rollout

#: Name of the array with the largest absolute reward of a shard in this segment so far.
LARGEST_REWARD = "largest_reward"


@dataclass(frozen=True)
class ShardWork:
    """What the collection of a trial's shards needs in any process.

    :param build: builds a model on the environments of a shard. Its parameters do not matter.
    """

    trial_seed: int
    n_shards: int
    factory: EnvironmentFactory
    build: Callable[[VecEnv], Any]

    @property
    def envs_per_shard(self) -> int:
        """The number of environments of each shard."""
        return self.factory.settings.n_envs // self.n_shards


class ShardCollector:
    """Collects some shards of one segment, with one policy.

    It gives the global generators back as they were, so a learner can collect beside its training.
    """

    def __init__(self, work: ShardWork, segment: int, shards: Sequence[int]) -> None:
        self._shards: dict[int, _Shard] = {}
        with preserved_generators():
            first: Any = None
            for shard in shards:
                self._shards[shard] = made = _Shard(work, segment, shard, first)
                first = first if first is not None else made.model
        self._policy = first.policy if first is not None else None

    def collect(
        self, base: Mapping[str, np.ndarray[Any, Any]], on_step: Callable[[int], None]
    ) -> dict[int, Arrays]:
        """Collect one rollout of each shard.

        :param base: the policy's parameters, and the statistics from which every shard starts. The
            names are those of :func:`rl_trainer.checkpointing.model_state.final_parameters`.
        :param on_step: called after each vector step with its number of environment steps.
        :return: arrays by shard. The next call may overwrite them.
        """
        if self._policy is not None:
            self._policy.load_state_dict(tensors_below(POLICY, base))
        return {shard: one.collect(base, on_step) for shard, one in self._shards.items()}

    def close(self) -> None:
        """Close the environments."""
        for shard in self._shards.values():
            shard.model.env.close()


class _Shard:
    """One shard: its environments, its generators, and a model that collects and never trains.

    :param first: the model of another shard in this process; its policy is used here, too.
    """

    def __init__(self, work: ShardWork, segment: int, shard: int, first: Any) -> None:
        self._first_env = shard * work.envs_per_shard
        self._generators = ShardGenerators(work.trial_seed, segment, shard)
        with self._generators.in_use():
            env = work.factory.make(
                work.trial_seed,
                segment,
                range(self._first_env, self._first_env + work.envs_per_shard),
            )
        if first is None:
            seed_generators(work.trial_seed, segment, purpose="-build")
            self.model = work.build(env)
            if isinstance(self.model, NumpyOnPolicy):
                self.model.prepared()
        else:
            self.model = _with_environments(first, env)
        self._moments = ShardMoments(self.model.get_vec_normalize_env())

    def collect(
        self, base: Mapping[str, np.ndarray[Any, Any]], on_step: Callable[[int], None]
    ) -> Arrays:
        """Collect one rollout. The first one begins with a reset of the environments."""
        model = self.model
        restore_normalisation(model.get_vec_normalize_env(), base)
        self._moments.forget()
        recorder = EpisodeRecorder(self._first_env, on_step)
        recorder.init_callback(model)
        with self._generators.in_use():
            if model._last_obs is None:
                self._begin()
            model.collect_rollouts(model.env, recorder, model.rollout_buffer, model.n_steps)
        return {
            **read_rollout(model.rollout_buffer),
            **recorder.take(),
            **self._moments.new_data(),
            LARGEST_REWARD: np.array(model.env.unwrapped.largest_reward, np.float64),
        }

    def _begin(self) -> None:
        """Do what SB3's `learn` does before its first rollout."""
        model = self.model
        model._last_obs = model.env.reset()
        model._last_episode_starts = np.ones(model.env.num_envs, bool)
        model.ep_info_buffer, model.ep_success_buffer = deque(maxlen=1), deque(maxlen=1)
        if isinstance(model, NumpyOnPolicy):
            model.renew_generator()


def _with_environments(model: Any, env: VecEnv) -> Any:
    """Return a model with the same policy, but with other environments and a buffer of its own."""
    other = copy.copy(model)
    other.rollout_buffer = copy.deepcopy(model.rollout_buffer)
    other.set_env(env)
    return other
