"""The environments of one segment: made new, wrapped as rl_zoo3 wraps them, every one with a seed
of its own.
"""

import contextlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize

from rl_lifecycle.experiment.seeds import SPAN, segment_seed
from rl_trainer.environments.vec_env import LeanVecEnv
from rl_trainer.errors import BadInputError
from rl_trainer.settings.hyperparameters import ModelSettings
from rl_trainer.settings.spaces import check_spaces
from rl_trainer.settings.wrappers import wrapper_of


class EnvironmentFactory:
    """Makes the environments of a spec, the same ones every time.

    :param env_id: a Gymnasium id, also `package:Env-v0`.
    """

    def __init__(self, env_id: str, env_kwargs: Mapping[str, Any], settings: ModelSettings) -> None:
        self.env_id, self.env_kwargs, self.settings = env_id, dict(env_kwargs), settings
        self._wrap = [wrapper_of(wrapper, env_id) for wrapper in settings.wrappers]

    def make_one(self) -> gym.Env[Any, Any]:
        """Make one environment, without rendering: SB3's `make_vec_env` would ask for pictures,
        which costs time.

        :raises BadInputError: if Gymnasium does not know it, or it takes no such arguments.
        """
        try:
            env = gym.make(self.env_id, disable_env_checker=True, **self.env_kwargs)
        except MemoryError:
            raise
        except (
            Exception
        ) as error:  # the environment's own code, or its package's, may raise anything
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise BadInputError(f"env_id: {self.env_id} cannot be made: {reason}") from error
        monitored: gym.Env[Any, Any] = Monitor(env, **self.settings.monitor_kwargs)
        for wrap in self._wrap:
            monitored = wrap(monitored)
        return monitored

    def make(self, trial_seed: int, segment: int) -> VecEnv:
        """Make the environments of a segment, each with its own seed for its first reset and its
        action space.
        """
        seeds = [
            environment_seed(trial_seed, segment, rank) for rank in range(self.settings.n_envs)
        ]
        vectorized: VecEnv = LeanVecEnv([self._maker(seed) for seed in seeds], seeds)
        if self.settings.normalize is not None:
            vectorized = _normalized(vectorized, self.settings.normalize)
        if self.settings.frame_stack:
            vectorized = VecFrameStack(vectorized, self.settings.frame_stack)
        return vectorized

    def _maker(self, seed: int) -> Callable[[], gym.Env[Any, Any]]:
        def make() -> gym.Env[Any, Any]:
            env = self.make_one()
            env.action_space.seed(seed)
            return env

        return make


def _normalized(env: VecEnv, kwargs: dict[str, Any]) -> VecNormalize:
    try:
        return VecNormalize(env, **kwargs)
    except (AssertionError, TypeError, ValueError) as error:
        raise BadInputError(f"hyperparameters.normalize: {' '.join(str(error).split())}") from error


def environment_seed(trial_seed: int, segment: int, rank: int) -> int:
    """The seed of one environment in one segment: within the third of the integers that belongs to
    training.
    """
    return segment_seed(trial_seed, segment, f"env-{rank}") % SPAN


def check_environment(factory: EnvironmentFactory) -> gym.Env[Any, Any]:
    """Run SB3's checker on one environment, and refuse what SB3 cannot train on.

    :return: the environment, for its spaces and its time limit; the caller closes it.
    :raises BadInputError: with the checker's reason.
    """
    from stable_baselines3.common.env_checker import check_env

    env = factory.make_one()
    check_spaces(env, factory.settings, factory.env_id)
    try:
        with contextlib.redirect_stdout(
            sys.stderr
        ):  # it prints what it thinks of goals, and stdout is for the result
            check_env(_PlainRewards(env), warn=False, skip_render_check=True)
    except Exception as error:  # whatever an environment raises here makes it unfit
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInputError(
            f"env_id: {factory.env_id} does not pass SB3's checker: {reason}"
        ) from error
    return env


class _PlainRewards(gym.Wrapper[Any, Any, Any, Any]):
    """Gives NumPy's numbers as Python's: SB3 trains on both, and its checker refuses
    BipedalWalker's `float32`.
    """

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        plain = reward.item() if isinstance(reward, np.number) else reward
        return observation, plain, terminated, truncated, info

    def compute_reward(self, *arguments: Any) -> Any:
        """What the checker asks of environments with goals, and of no others."""
        return self.env.get_wrapper_attr("compute_reward")(*arguments)


def ended_episodes(env: VecEnv) -> tuple[list[float], list[int]]:
    """Returns and lengths of all episodes that ended since the environments were made, as the
    environments gave them.
    """
    returns = [value for part in env.env_method("get_episode_rewards") for value in part]
    return returns, [value for part in env.env_method("get_episode_lengths") for value in part]


def max_episode_steps(env: gym.Env[Any, Any]) -> int | None:
    """The time limit that the environment is registered with; None if it has none."""
    return env.spec.max_episode_steps if env.spec is not None else None
