"""Make the environments of a segment, with rl_zoo3's wrappers and a separate seed for each."""

import contextlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize

from rl_lifecycle.experiment.seeds import SPAN, segment_seed
from rl_trainer.environments.action_masks import AllowedActions
from rl_trainer.environments.vec_env import LeanVecEnv
from rl_trainer.errors import BadInputError
from rl_trainer.settings.model_settings import ModelSettings
from rl_trainer.settings.space_checks import check_spaces
from rl_trainer.settings.wrappers import wrapper_of


class EnvironmentFactory:
    """Makes the environments of a spec. The same seed and segment give the same environments.

    :param env_id: a Gymnasium id, or `package:Env-v0`.
    """

    def __init__(self, env_id: str, env_kwargs: Mapping[str, Any], settings: ModelSettings) -> None:
        self.env_id, self.env_kwargs, self.settings = env_id, dict(env_kwargs), settings
        self._wrap = [wrapper_of(wrapper, env_id) for wrapper in settings.wrappers]

    def make_one(self) -> gym.Env[Any, Any]:
        """Make one environment without rendering.

        SB3's `make_vec_env` would ask for rendered images, which takes time.

        :raises BadInputError: if Gymnasium does not know the id, or refuses its arguments.
        """
        try:
            env = gym.make(self.env_id, disable_env_checker=True, **self.env_kwargs)
        except MemoryError:
            raise
        except Exception as error:  # code of the environment or its package may raise any type
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise BadInputError(f"env_id: {self.env_id} cannot be made: {reason}") from error
        monitored: gym.Env[Any, Any] = Monitor(env, **self.settings.monitor_kwargs)
        for wrap in self._wrap:
            monitored = wrap(monitored)
        return monitored

    def make(self, trial_seed: int, segment: int) -> VecEnv:
        """Make the environments of a segment.

        Each environment has its own seed for its first reset and for its action space.
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
    """Return the seed of one environment in one segment.

    Training has its own third of the integers, so that evaluation never uses the same seed.
    """
    return segment_seed(trial_seed, segment, f"env-{rank}") % SPAN


def check_environment(factory: EnvironmentFactory) -> gym.Env[Any, Any]:
    """Run SB3's checker on one environment, and refuse spaces that SB3 cannot train on.

    :return: the environment, which gives its spaces and its time limit. The caller closes it.
    :raises BadInputError: with the checker's reason.
    """
    from stable_baselines3.common.env_checker import check_env

    env = factory.make_one()
    check_spaces(env, factory.settings, factory.env_id)
    try:
        # The checker prints remarks about environments with goals. Stdout is for the result only.
        with contextlib.redirect_stdout(sys.stderr):
            checked = AllowedActions(env) if factory.settings.algorithm.action_masks else env
            check_env(_PlainRewards(checked), warn=False, skip_render_check=True)
    except Exception as error:  # code of the environment may raise any type
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInputError(
            f"env_id: {factory.env_id} does not pass SB3's checker: {reason}"
        ) from error
    return env


class _PlainRewards(gym.Wrapper[Any, Any, Any, Any]):
    """Converts NumPy rewards to Python numbers.

    SB3 trains on both, but its checker refuses the `float32` rewards of BipedalWalker.
    """

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step, and convert its reward."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        plain = reward.item() if isinstance(reward, np.number) else reward
        return observation, plain, terminated, truncated, info

    def compute_reward(self, *arguments: Any) -> Any:
        """Call the environment's method. The checker needs it for environments with goals."""
        return self.env.get_wrapper_attr("compute_reward")(*arguments)


def ended_episodes(env: VecEnv) -> tuple[list[float], list[int]]:
    """Return the returns and the lengths of all episodes that have ended in these environments.

    The returns are those of the environments, before any normalisation.
    """
    returns = [value for part in env.env_method("get_episode_rewards") for value in part]
    return returns, [value for part in env.env_method("get_episode_lengths") for value in part]


def max_episode_steps(env: gym.Env[Any, Any]) -> int | None:
    """Return the time limit that the environment is registered with; None if it has none."""
    return env.spec.max_episode_steps if env.spec is not None else None
