"""Put an environment into the wrappers that a policy was trained in, and count its rewards as the environment gives them.

A wrapper that scales or clips rewards helps training; it must not decide what a policy is worth. So returns are summed inside
all wrappers: one that repeats an action gives the sum of what was earned meanwhile.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium

from rl_evaluator.environments import Env
from rl_evaluator.errors import EnvironmentFailedError, first_line
from rl_lifecycle.policies import WrapperForm


class _Till(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Innermost: keeps what was earned since it was last asked."""

    earned = 0.0

    def step(self, action: Any) -> Any:
        """Step, and keep the reward."""
        answer = self.env.step(action)
        self.earned += float(answer[1])
        return answer


class _Paid(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Outermost: gives what the till has."""

    def __init__(self, env: Env, till: _Till) -> None:
        super().__init__(env)
        self.till = till

    def reset(self, **arguments: Any) -> Any:
        """Begin with an empty till: some wrappers step while they reset."""
        answer = self.env.reset(**arguments)
        self.till.earned = 0.0
        return answer

    def step(self, action: Any) -> Any:
        """Step, and empty the till."""
        observation, _, terminated, truncated, info = self.env.step(action)
        reward, self.till.earned = self.till.earned, 0.0
        return observation, reward, terminated, truncated, info


def wrap_environment(env: Env, wrappers: Sequence[WrapperForm], env_id: str) -> Env:
    """Wrap an environment, the first wrapper innermost; without wrappers it stays as it is.

    :raises EnvironmentFailedError: if a wrapper cannot be had here, or does not take the environment.
    """
    if not wrappers:
        return env
    till = _Till(env)
    wrapped: Env = till
    for form in wrappers:
        try:
            wrapped = _find(form.name, env_id)(wrapped, **form.kwargs)
        except (TypeError, ValueError, AssertionError) as error:
            raise EnvironmentFailedError(env_id, f"does not fit into {form.name}: {first_line(error)}") from None
    return _Paid(wrapped, till)


def _find(name: str, env_id: str) -> Callable[..., Env]:
    module, _, class_name = name.rpartition(".")
    own = env_id.partition(":")[0].partition(".")[0] if ":" in env_id else None
    if not any(module == package or module.startswith(f"{package}.") for package in ("gymnasium.wrappers", own) if package):
        raise EnvironmentFailedError(env_id, f"its policy was trained in the wrapper {name}, which cannot be had here: take one of "
                                     "gymnasium.wrappers, or put it into the environment's wheel")
    try:
        found: Callable[..., Env] = getattr(importlib.import_module(module), class_name)
    except (ImportError, AttributeError) as error:
        raise EnvironmentFailedError(env_id, f"its policy was trained in the wrapper {name}: {first_line(error)}") from None
    return found
