"""Make Gymnasium environments for evaluation: without rendering, with errors of one line."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium

from rl_evaluator.errors import FOREIGN_ERRORS, EnvironmentFailedError, first_line
from rl_lifecycle.experiment.evaluation_settings import Perturbation

Env = gymnasium.Env[Any, Any]


def make_environment(env_id: str, env_kwargs: Mapping[str, Any]) -> Env:
    """Make one environment.

    The environment gets `render_mode=None`, because some environments simulate particles only for
    pictures. An environment that does not know this argument is made without it. Gymnasium's
    passive checker is off, because it would check every step;
    :mod:`rl_evaluator.playing.environment_checks` checks an environment once.

    :raises EnvironmentFailedError: if the id is not registered (the message lists similar ids), or
        the environment cannot be made.
    """
    try:
        return _make(env_id, env_kwargs)
    except gymnasium.error.UnregisteredEnv:
        raise EnvironmentFailedError(
            env_id, f"is not a registered environment{_suggest(env_id)}"
        ) from None
    except ModuleNotFoundError as error:
        # Gymnasium raises this error itself for `package:Env-v0`, and then without a name.
        module = error.name or env_id.partition(":")[0]
        raise EnvironmentFailedError(
            env_id,
            f"needs the module {module}, which is not installed here; add its wheel to "
            "`requirements`",
        ) from None
    except FOREIGN_ERRORS as error:
        raise EnvironmentFailedError(env_id, f"cannot be made: {first_line(error)}") from None


def _make(env_id: str, env_kwargs: Mapping[str, Any]) -> Env:
    try:
        return gymnasium.make(
            env_id, disable_env_checker=True, **{"render_mode": None, **env_kwargs}
        )
    except TypeError as error:
        if "render_mode" not in str(error) or "render_mode" in env_kwargs:
            raise
        return gymnasium.make(env_id, disable_env_checker=True, **env_kwargs)


def close_environment(env: Env) -> str:
    """Close an environment, whose episodes have ended.

    :return: what it raised, in one line; empty if it raised nothing.
    """
    try:
        env.close()
    except FOREIGN_ERRORS as error:
        return first_line(error)
    return ""


def environment_maker(
    env_id: str, env_kwargs: Mapping[str, Any], perturbation: Perturbation | None = None
) -> Callable[[], Env]:
    """Return a function that makes a new environment at each call.

    :param perturbation: the disturbance of its episodes; None for no disturbance.
    """
    if perturbation is None or perturbation == Perturbation():
        return lambda: make_environment(env_id, env_kwargs)
    # Imported here, because the module perturbations imports this module.
    from rl_evaluator.playing.perturbations import perturb

    return lambda: perturb(make_environment(env_id, env_kwargs), perturbation)


def _suggest(env_id: str) -> str:
    known = sorted(gymnasium.registry)
    close = difflib.get_close_matches(env_id, known, n=3, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    if ":" not in env_id:
        return (
            "; for an environment of your own write package:Env-v0 and add its wheel to "
            "`requirements`"
        )
    return "; importing the package did not register it, so register it in the package's __init__"
