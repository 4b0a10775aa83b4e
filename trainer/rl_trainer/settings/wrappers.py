"""Import the environment wrappers that an experiment names, if their package is on a whitelist."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym

from rl_lifecycle.errors import ForbiddenWrapperError
from rl_lifecycle.experiment.wrappers import WrapperForm, find_wrapper
from rl_trainer.errors import FOREIGN_ERRORS, BadInputError

#: Packages whose wrappers an experiment may name. The package of its env_id is allowed, too.
PACKAGES = ("gymnasium.wrappers", "stable_baselines3.common", "sb3_contrib.common.wrappers")
#: Wrappers of rl_zoo3 that another package provides as well.
RENAMED = {"rl_zoo3.wrappers.TimeFeatureWrapper": "sb3_contrib.common.wrappers.TimeFeatureWrapper"}


def wrapper_of(
    wrapper: WrapperForm, env_id: str
) -> Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]:
    """Return a function that wraps an environment.

    :param env_id: with `package:Env-v0`, wrappers of that package are allowed, too.
    :raises BadInputError: if the wrapper is not on the whitelist, or cannot be imported.
    """
    try:
        kind = find_wrapper(RENAMED.get(wrapper.name, wrapper.name), env_id, PACKAGES)
    except ForbiddenWrapperError as error:
        raise BadInputError(
            f"hyperparameters.env_wrapper: {wrapper.name!r} is not allowed; "
            f"it must come from {', '.join(error.allowed)}"
        ) from error
    except FOREIGN_ERRORS as error:
        raise BadInputError(
            f"hyperparameters.env_wrapper: {wrapper.name!r} cannot be imported: {error}"
        ) from error

    def wrap(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        try:
            wrapped: gym.Env[Any, Any] = kind(env, **wrapper.kwargs)
        except FOREIGN_ERRORS as error:
            raise BadInputError(
                f"hyperparameters.env_wrapper: {wrapper.name} refuses the environment or its "
                f"arguments {wrapper.kwargs}: {' '.join(str(error).split())}"
            ) from error
        return wrapped

    return wrap
