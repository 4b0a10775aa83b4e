"""Make the environments of a segment, with rl_zoo3's wrappers and a separate seed for each."""

import contextlib
import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.vec_env import (
    VecEnv,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
)

from rl_lifecycle.experiment.seeds import SPAN, segment_seed
from rl_trainer.environments.action_masks import AllowedActions
from rl_trainer.environments.sharded_env import LENGTHS, RETURNS, ShardedVecEnv
from rl_trainer.environments.vec_env import LeanVecEnv, close_environment
from rl_trainer.environments.worker_vec_env import WorkerVecEnv
from rl_trainer.errors import FOREIGN_ERRORS, BadInputError, OneProcessNeededError
from rl_trainer.onnx_export.spaces import space_form
from rl_trainer.settings.model_settings import ModelSettings
from rl_trainer.settings.space_checks import check_spaces
from rl_trainer.settings.wrappers import wrapper_of


class EnvironmentFactory:
    """Makes the environments of a spec. The same seed and segment give the same environments.

    :param env_id: a Gymnasium id, or `package:Env-v0`.
    """

    def __init__(self, env_id: str, env_kwargs: Mapping[str, Any], settings: ModelSettings) -> None:
        self.env_id, self.env_kwargs, self.settings = env_id, dict(env_kwargs), settings
        #: How many processes step the environments of the next segments.
        self.processes = 1
        self._shared: bool | None = None
        self._spaces: tuple[Any, Any] | None = None
        self._wrap = [wrapper_of(wrapper, env_id) for wrapper in settings.wrappers]

    def __reduce__(self) -> tuple[Any, ...]:
        """Make it again in a worker, because wrappers cannot be pickled."""
        return EnvironmentFactory, (self.env_id, self.env_kwargs, self.settings)

    def make_one(
        self, inside: Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]] | None = None
    ) -> gym.Env[Any, Any]:
        """Make one environment without rendering.

        SB3's `make_vec_env` would ask for rendered images, which takes time.

        :param inside: a wrapper around the environment itself, inside all other wrappers.
        :raises BadInputError: if Gymnasium does not know the id, or refuses its arguments.
        """
        try:
            env = gym.make(self.env_id, disable_env_checker=True, **self.env_kwargs)
        except MemoryError:
            raise
        except FOREIGN_ERRORS as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise BadInputError(f"env_id: {self.env_id} cannot be made: {reason}") from error
        inner = env if inside is None else inside(env)
        monitored: gym.Env[Any, Any] = Monitor(inner, **self.settings.monitor_kwargs)
        for wrap in self._wrap:
            monitored = wrap(monitored)
        return monitored

    def make(self, trial_seed: int, segment: int, ranks: range | None = None) -> VecEnv:
        """Make the environments of a segment.

        Each environment has its own seed for its first reset and for its action space.

        :param ranks: which environments; None means all.
        """
        seeds = [
            environment_seed(trial_seed, segment, rank)
            for rank in (range(self.settings.n_envs) if ranks is None else ranks)
        ]
        # The shards of one process are stepped by this process.
        return self._wrapped(self.make_plain(seeds, self.processes if ranks is None else 1))

    def make_sharded(self) -> VecEnv:
        """Make what the learner has in place of environments that shards step."""
        if self._spaces is None:
            env = self.make_one()
            self._spaces = (env.observation_space, env.action_space)
            close_environment(env)
        # VecNormalize may change the space of a dictionary.
        observation_space, action_space = copy.deepcopy(self._spaces)
        return self._wrapped(
            ShardedVecEnv(self.settings.n_envs, observation_space, action_space), training=False
        )

    def _wrapped(self, vectorized: VecEnv, *, training: bool = True) -> VecEnv:
        """Wrap environments as the settings say.

        :param training: whether VecNormalize updates its statistics by itself.
        """
        normalize, stack = self.settings.normalize, self.settings.frame_stack
        if normalize is not None and normalize.get("norm_obs", True):
            vectorized = _normalized(vectorized, {**normalize, "training": training})
        if stack:
            vectorized = VecFrameStack(vectorized, stack)
        if normalize is not None and not normalize.get("norm_obs", True):
            # A replay buffer asks VecNormalize for the observations that it must keep. So frames
            # are stacked and images are transposed inside of it.
            if _has_channels_last(vectorized.observation_space):
                vectorized = VecTransposeImage(vectorized)
            vectorized = _normalized(vectorized, {**normalize, "training": training})
        return vectorized

    def make_plain(self, seeds: Sequence[int], processes: int) -> VecEnv:
        """Make environments without normalisation and stacked frames.

        :param processes: how many processes step them. This number changes no byte.
        """
        processes = min(processes, len(seeds))
        if processes == 1:
            return LeanVecEnv(self.makers(seeds), seeds)
        env = WorkerVecEnv(self.makers, seeds, processes)
        if self._shares_action_space():
            # In one process the environment that is made last seeds the space of all.
            env.action_space.seed(seeds[-1])
        return env

    def _shares_action_space(self) -> bool:
        """Tell whether all environments of a process have one action space, such as their class's.

        Off-policy algorithms draw their first actions from the space of the first environment.
        """
        if self._shared is None:
            first, second = self.make_one(), self.make_one()
            self._shared = first.action_space is second.action_space
            for env in (first, second):
                close_environment(env)
        return self._shared

    def makers(self, seeds: Sequence[int]) -> list[Callable[[], gym.Env[Any, Any]]]:
        """Return functions that make one environment each."""
        return [self._maker(seed) for seed in seeds]

    def _maker(self, seed: int) -> Callable[[], gym.Env[Any, Any]]:
        def make() -> gym.Env[Any, Any]:
            env = self.make_one()
            env.action_space.seed(seed)
            return env

        return make


def _has_channels_last(space: Any) -> bool:
    """Whether SB3 transposes an image of these observations."""
    parts: list[Any] = [space]
    if isinstance(space, gym.spaces.Dict):
        parts = list(space.spaces.values())
    return any(is_image_space(part) and not is_image_space_channels_first(part) for part in parts)


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

    env = factory.make_one(_NumberRewards)  # before SB3's Monitor converts them
    _check_spaces(env, factory)
    try:
        # The checker prints remarks about environments with goals. Stdout is for the result only.
        with contextlib.redirect_stdout(sys.stderr):
            checked = AllowedActions(env) if factory.settings.algorithm.action_masks else env
            check_env(_PlainRewards(checked), warn=False, skip_render_check=True)
    except _WrongRewardError as error:
        raise BadInputError(f"env_id: a reward of {factory.env_id} {error}") from error
    except FOREIGN_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInputError(
            f"env_id: {factory.env_id} does not pass SB3's checker: {reason}"
        ) from error
    return env


def _check_spaces(env: gym.Env[Any, Any], factory: EnvironmentFactory) -> None:
    env_id = factory.env_id
    try:
        forms = space_form(env.observation_space), space_form(env.action_space)
    except BadInputError:
        raise BadInputError(
            f"env_id: no policy takes the spaces of {env_id}, {env.observation_space} and "
            f"{env.action_space}; wrap the environment, so that they are Box, Discrete, "
            "MultiDiscrete or MultiBinary, or for observations a Dict of these"
        ) from None
    check_spaces(env, *forms, factory.settings, env_id)


class _WrongRewardError(Exception):
    """A reward is not a number. The message completes `a reward of Name-v0 …`."""


class _NumberRewards(gym.Wrapper[Any, Any, Any, Any]):
    """Converts NumPy rewards to Python numbers.

    SB3 trains on both, but its checker refuses the `float32` rewards of BipedalWalker. An array is
    refused, also one of a single number, because NumPy and SB3 treat it differently from release to
    release.
    """

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step, and convert its reward.

        :raises _WrongRewardError: if the reward is not a number.
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        advice = "not a number; return a number, such as float(reward)"
        if isinstance(reward, np.ndarray):
            raise _WrongRewardError(f"is an array of shape {reward.shape}, {advice}")
        if not isinstance(reward, int | float | np.number | np.bool_):
            raise _WrongRewardError(f"is {' '.join(repr(reward).split()):.80}, {advice}")
        plain = reward.item() if isinstance(reward, np.number) else reward
        return observation, plain, terminated, truncated, info


class _PlainRewards(_NumberRewards):
    """Also converts the rewards of the experiment's wrappers, for SB3's checker."""

    def compute_reward(self, *arguments: Any) -> Any:
        """Call the environment's method. The checker needs it for environments with goals."""
        return self.env.get_wrapper_attr("compute_reward")(*arguments)


def ended_episodes(env: VecEnv) -> tuple[list[float], list[int]]:
    """Return the returns and the lengths of all episodes that have ended in these environments.

    The returns are those of the environments, before any normalisation.
    """
    returns = [value for part in env.env_method(RETURNS) for value in part]
    return returns, [value for part in env.env_method(LENGTHS) for value in part]


def check_generators(env: VecEnv) -> None:
    """Check after a segment that no worker's environment has drawn from a global generator.

    The environments are closed if one has, because the segment is worth nothing then.

    :raises OneProcessNeededError: naming the generator.
    """
    if used := used_generators(env):
        env.close()
        raise OneProcessNeededError(
            f"an environment has drawn from its process's generator {used}; with self.np_random it "
            "could be stepped in several processes"
        )


def used_generators(env: VecEnv) -> str:
    """Return the names of global generators from which environments in workers have drawn."""
    return ", ".join(getattr(env.unwrapped, "used_generators", ()))


def max_episode_steps(env: gym.Env[Any, Any]) -> int | None:
    """Return the time limit that the environment is registered with; None if it has none."""
    return env.spec.max_episode_steps if env.spec is not None else None
