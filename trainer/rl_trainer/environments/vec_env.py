"""A faster DummyVecEnv of SB3: it gives the same numbers, but makes no deep copies.

On small environments it takes about half the time.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from rl_trainer.errors import EnvironmentFailedError, find_exhaustion


class LeanVecEnv(DummyVecEnv):
    """Steps environments one after another in this process.

    It returns copies, so the returned arrays never change, as with DummyVecEnv. Each step's
    infos are new dictionaries. The values inside an info belong to the environment and are not
    copied.

    :param seeds: one seed for the first reset of each environment. Later resets continue with the
        environment's own generator.
    """

    def __init__(
        self, makers: Sequence[Callable[[], gym.Env[Any, Any]]], seeds: Sequence[int]
    ) -> None:
        super().__init__(list(makers))
        self._seeds = list(seeds)
        #: The largest absolute reward so far. The divergence check compares value errors with it.
        self.largest_reward = 0.0
        self._single: Any = self.buf_obs[None] if self.keys == [None] else None  # type: ignore[index]

    def step_wait(self) -> VecEnvStepReturn:
        """Step every environment once, and reset those whose episode ended."""
        infos: list[dict[str, Any]] = []
        try:
            for index in range(self.num_envs):
                infos.append(self._step_one(index))
        except Exception as error:  # code of the environment may raise any type
            raise find_exhaustion(error) or EnvironmentFailedError(
                f"the environment raised an error in step(): {type(error).__name__}: {error}"
            ) from error
        return self._copied_observations(), self.buf_rews.copy(), self.buf_dones.copy(), infos

    def _step_one(self, index: int) -> dict[str, Any]:
        env = self.envs[index]
        observation, reward, terminated, truncated, info = env.step(self.actions[index])
        info = dict(info)
        info["TimeLimit.truncated"] = truncated and not terminated
        if terminated or truncated:
            info["terminal_observation"] = deepcopy(observation)
            observation, self.reset_infos[index] = env.reset()
        value = float(reward)
        self.buf_rews[index] = value
        if value > self.largest_reward or -value > self.largest_reward:
            self.largest_reward = abs(value)
        self.buf_dones[index] = terminated or truncated
        self._save_obs(index, observation)
        return info

    def _copied_observations(self) -> Any:
        if self._single is not None:
            return self._single.copy()
        return self._obs_from_buf()

    def _save_obs(self, env_idx: int, obs: Any) -> None:
        if self._single is not None:
            self._single[env_idx] = obs
        else:
            super()._save_obs(env_idx, obs)
