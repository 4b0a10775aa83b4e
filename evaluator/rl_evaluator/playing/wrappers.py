"""Put an environment into the wrappers that a policy was trained in, and count its rewards as the
environment gives them.

A wrapper that scales or clips rewards, or ends episodes early, helps training; it must not decide
what a policy is worth. So returns are summed inside all wrappers (one that repeats an action gives
the sum of what was earned meanwhile), and an episode goes on until the environment itself ends it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium

from rl_evaluator.errors import EnvironmentFailedError, first_line
from rl_evaluator.playing.environments import Env
from rl_lifecycle.errors import ForbiddenWrapperError
from rl_lifecycle.experiment.wrappers import WrapperForm, find_wrapper, remembers_episodes

#: Packages whose wrappers can be had where policies are judged; the package of the env_id is one
#: more.
PACKAGES = ("gymnasium.wrappers",)


class _Till(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Innermost: keeps what was earned since it was last asked, and whether the environment itself
    has ended the episode.
    """

    earned = 0.0
    terminated = truncated = playing = False

    def reset(self, **arguments: Any) -> Any:
        """Begin an episode.
        :raises RuntimeError: if a wrapper asks within one: its return would be of two.
        """
        if self.playing and not (self.terminated or self.truncated):
            raise RuntimeError("a wrapper reset the environment within an episode")
        answer = self.env.reset(**arguments)
        if not self.playing:
            self.terminated = self.truncated = False
        return answer

    def step(self, action: Any) -> Any:
        """Step, and keep the reward; what a wrapper earns after the episode's end does not
        count.
        """
        answer = self.env.step(action)
        if not (self.terminated or self.truncated):
            self.earned += float(answer[1])
            self.terminated, self.truncated = bool(answer[2]), bool(answer[3])
        return answer


class _Paid(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Outermost: gives what the till has, and ends when the till has seen the end."""

    def __init__(self, env: Env, till: _Till) -> None:
        super().__init__(env)
        self.till = till

    def reset(self, **arguments: Any) -> Any:
        """Begin with an empty till: some wrappers step while they reset."""
        self.till.playing = False
        answer = self.env.reset(**arguments)
        self.till.earned, self.till.playing = 0.0, True
        return answer

    def step(self, action: Any) -> Any:
        """Step, and empty the till. What the wrappers say of the episode's end is for training
        alone.
        """
        observation, _, _, _, info = self.env.step(action)
        reward, self.till.earned = self.till.earned, 0.0
        return observation, reward, self.till.terminated, self.till.truncated, info


def wrap_environment(env: Env, wrappers: Sequence[WrapperForm], env_id: str) -> Env:
    """Wrap an environment, the first wrapper innermost; without wrappers it stays as it is.

    :raises EnvironmentFailedError: if a wrapper cannot be had here, or does not take the
        environment.
    """
    if not wrappers:
        return env
    till = _Till(env)
    wrapped: Env = till
    for form in wrappers:
        try:
            wrapped = _find(form.name, env_id)(wrapped, **form.kwargs)
        except (TypeError, ValueError, AssertionError) as error:
            raise EnvironmentFailedError(
                env_id, f"does not fit into {form.name}: {first_line(error)}"
            ) from None
    return _Paid(wrapped, till)


def _find(name: str, env_id: str) -> Callable[..., Env]:
    if remembers_episodes(name):
        raise EnvironmentFailedError(
            env_id,
            f"its policy was trained in the wrapper {name}, whose statistics are not in the "
            "policy and "
            "change with every episode played: train it with `normalize:` instead",
        )
    try:
        return find_wrapper(name, env_id, PACKAGES)
    except ForbiddenWrapperError:
        raise EnvironmentFailedError(
            env_id,
            f"its policy was trained in the wrapper {name}, which cannot be had here: take one of "
            "gymnasium.wrappers, or put it into the environment's wheel",
        ) from None
    except (ImportError, AttributeError) as error:
        raise EnvironmentFailedError(
            env_id, f"its policy was trained in the wrapper {name}: {first_line(error)}"
        ) from None
