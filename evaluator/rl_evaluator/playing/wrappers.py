"""Wrap an environment as in training, but keep the environment's own rewards and episode ends.

Wrappers that scale or clip rewards, or end episodes early, help training. They must not change the
return by which a policy is judged. So rewards are summed inside all wrappers, and an episode goes
on until the environment itself ends it. If a wrapper repeats an action, its step gives the sum of
the rewards of all repetitions.
"""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium

from rl_evaluator.errors import FOREIGN_ERRORS, EnvironmentFailedError, first_line
from rl_evaluator.playing.environments import Env
from rl_lifecycle.errors import ForbiddenWrapperError
from rl_lifecycle.experiment.wrappers import WrapperForm, find_wrapper, remembers_episodes

#: Packages whose wrappers are installed in the evaluator. Wrappers may also come from the package
#: of the env_id.
PACKAGES = ("gymnasium.wrappers",)


class _RewardMeter(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The innermost wrapper: sums the environment's own rewards, and records its episode end."""

    earned = 0.0
    terminated = truncated = playing = False

    def reset(self, **kwargs: Any) -> Any:
        """Begin an episode.

        :raises RuntimeError: if a wrapper resets within an episode, because the return would then
            be the sum of two episodes.
        """
        if self.playing and not (self.terminated or self.truncated):
            raise RuntimeError("a wrapper reset the environment within an episode")
        answer = self.env.reset(**kwargs)
        if not self.playing:
            self.terminated = self.truncated = False
        return answer

    def step(self, action: Any) -> Any:
        """Step, and add the reward. Rewards after the episode's end do not count."""
        answer = self.env.step(action)
        if not (self.terminated or self.truncated):
            self.earned += float(answer[1])
            self.terminated, self.truncated = bool(answer[2]), bool(answer[3])
        return answer


class MeteredEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The outermost wrapper: returns the rewards and the episode end that the meter recorded."""

    def __init__(self, env: Env, meter: _RewardMeter) -> None:
        super().__init__(env)
        self.meter = meter

    def reset(self, **kwargs: Any) -> Any:
        """Begin an episode with the meter at zero, because some wrappers step while they reset."""
        self.meter.playing = False
        answer = self.env.reset(**kwargs)
        self.meter.earned, self.meter.playing = 0.0, True
        return answer

    def step(self, action: Any) -> Any:
        """Step, and set the meter to zero. The wrappers' own reward and episode end are ignored."""
        observation, _, _, _, info = self.env.step(action)
        reward, self.meter.earned = self.meter.earned, 0.0
        return observation, reward, self.meter.terminated, self.meter.truncated, info


def wrap_environment(env: Env, wrappers: Sequence[WrapperForm], env_id: str) -> Env:
    """Wrap an environment, the first wrapper innermost. Without wrappers nothing changes.

    :raises EnvironmentFailedError: if a wrapper is not available here, or refuses the environment.
    """
    if not wrappers:
        return env

    meter = _RewardMeter(env)
    wrapped: Env = meter
    for form in wrappers:
        wrap = _find(form.name, env_id)
        try:
            wrapped = wrap(wrapped, **form.kwargs)
        except FOREIGN_ERRORS as error:
            raise EnvironmentFailedError(
                env_id,
                f"the wrapper {form.name} does not accept this environment or these settings: "
                f"{first_line(error)}",
            ) from None
    return MeteredEnv(wrapped, meter)


def _find(name: str, env_id: str) -> Callable[..., Env]:
    if remembers_episodes(name):
        raise EnvironmentFailedError(
            env_id,
            f"its policy was trained in the wrapper {name}, whose statistics change with every "
            "episode and are not in the policy; train it with `normalize:` instead",
        )
    try:
        return find_wrapper(name, env_id, PACKAGES)
    except ForbiddenWrapperError:
        raise EnvironmentFailedError(
            env_id,
            f"its policy was trained in the wrapper {name}, which is not available here; use a "
            "wrapper of gymnasium.wrappers, or put it into the environment's wheel",
        ) from None
    except FOREIGN_ERRORS as error:
        raise EnvironmentFailedError(
            env_id, f"its policy was trained in the wrapper {name}: {first_line(error)}"
        ) from None
