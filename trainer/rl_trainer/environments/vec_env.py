"""SB3's DummyVecEnv without its deep copies: the same numbers, and about half the time on small
environments.
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

    What it hands out is never written to again, as with DummyVecEnv: arrays are copied, and each
    step's infos are new dictionaries (values inside an info are the environment's own, not copies).

    :param seeds: for the first reset of each environment; later resets go on with the environment's
        own generator.
    """

    def __init__(
        self, makers: Sequence[Callable[[], gym.Env[Any, Any]]], seeds: Sequence[int]
    ) -> None:
        super().__init__(list(makers))
        self._seeds = list(seeds)
        #: By its size, of all that were given; whoever looks for divergence compares values with
        #: it.
        self.largest_reward = 0.0
        self._single: Any = self.buf_obs[None] if self.keys == [None] else None  # type: ignore[index]

    def step_wait(self) -> VecEnvStepReturn:
        """Step every environment once, and reset those whose episode ended."""
        infos: list[dict[str, Any]] = []
        try:
            for index in range(self.num_envs):
                infos.append(self._step_one(index))
        except Exception as error:  # whatever an environment raises
            raise find_exhaustion(error) or EnvironmentFailedError(
                f"the environment raised in step(): {type(error).__name__}: {error}"
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
        self.buf_rews[index] = given = float(reward)
        if given > self.largest_reward or -given > self.largest_reward:
            self.largest_reward = abs(given)
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
