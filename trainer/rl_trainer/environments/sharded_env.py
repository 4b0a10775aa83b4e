"""The environments of a sharded training, as its learner sees them."""

from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

#: Methods of SB3's monitors that the learner may call.
RETURNS, LENGTHS = "get_episode_rewards", "get_episode_lengths"


class ShardedVecEnv(VecEnv):
    """Knows the number and the spaces of environments that the shards step, and their episodes.

    SB3's models and VecNormalize take their shapes from a VecEnv. The environments themselves are
    where the shards are collected, so this object cannot step.
    """

    def __init__(
        self, num_envs: int, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
    ) -> None:
        super().__init__(num_envs, observation_space, action_space)
        #: The largest absolute reward so far. The divergence check compares value errors with it.
        self.largest_reward = 0.0
        self._returns: list[list[float]] = [[] for _ in range(num_envs)]
        self._lengths: list[list[int]] = [[] for _ in range(num_envs)]

    def add_episodes(self, episodes: Iterable[tuple[int, float, int]]) -> None:
        """Add episodes that have ended: environment, return and length of each."""
        for env, episode_return, length in episodes:
            self._returns[env].append(episode_return)
            self._lengths[env].append(length)

    def reset(self) -> Any:
        """Return observations of zeros, which SB3's `learn` asks for before the first rollout."""
        space = self.observation_space
        if isinstance(space, spaces.Dict):
            return {key: self._zeros(part) for key, part in space.spaces.items()}
        return self._zeros(space)

    def step_async(self, actions: Any) -> NoReturn:
        """Refuse to step.

        :raises RuntimeError: always.
        """
        del actions
        raise RuntimeError("the environments of a sharded training are stepped by its shards")

    def step_wait(self) -> NoReturn:
        """Refuse to step.

        :raises RuntimeError: always.
        """
        self.step_async(None)

    def close(self) -> None:
        """Close nothing, because the shards close their environments."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return the render mode, which SB3's VecEnv asks for.

        :raises AttributeError: for any other attribute.
        """
        if attr_name != "render_mode":
            raise AttributeError(f"the environments of the shards are elsewhere: no {attr_name}")
        return [None for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> NoReturn:
        """Refuse to change the environments.

        :raises AttributeError: always.
        """
        del value, indices
        raise AttributeError(f"the environments of the shards are elsewhere: no {attr_name}")

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Return the returns or the lengths of the episodes of each environment.

        :raises AttributeError: for any other method.
        """
        del method_args, method_kwargs
        answers: dict[str, list[Any]] = {RETURNS: self._returns, LENGTHS: self._lengths}
        if method_name not in answers:
            raise AttributeError(f"the environments of the shards are elsewhere: no {method_name}")
        return [answers[method_name][index] for index in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """Answer that no environment has this wrapper."""
        del wrapper_class
        return [False for _ in self._get_indices(indices)]

    def _zeros(self, space: spaces.Space[Any]) -> np.ndarray[Any, Any]:
        return np.zeros((self.num_envs, *(space.shape or ())), space.dtype)
