"""Make Gymnasium environments as the evaluator needs them: never rendered, errors in one line."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium

from rl_evaluator.errors import EnvironmentFailedError, first_line
from rl_lifecycle.experiment.experiment import Perturbation

Env = gymnasium.Env[Any, Any]


def make_environment(env_id: str, env_kwargs: Mapping[str, Any]) -> Env:
    """Make one environment.

    Without a render mode, because some environments simulate particles only for pictures (one that
    does not know the argument is made without it); and without Gymnasium's passive checker, which
    :mod:`rl_evaluator.playing.environment_checks` runs once instead of at every step.

    :raises EnvironmentFailedError: if it is not registered (with the ids that come close), or
        cannot be made.
    """
    try:
        return _make(env_id, env_kwargs)
    except gymnasium.error.UnregisteredEnv:
        raise EnvironmentFailedError(
            env_id, f"is not a registered environment{_suggest(env_id)}"
        ) from None
    except ModuleNotFoundError as error:
        module = error.name or env_id.partition(":")[0]  # Gymnasium's own message has no name
        raise EnvironmentFailedError(
            env_id,
            f"needs the module {module}, which is not installed here: name its wheel "
            "under `requirements`",
        ) from None
    except Exception as error:  # the environment's own code may raise anything
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


def environment_maker(
    env_id: str, env_kwargs: Mapping[str, Any], perturbation: Perturbation | None = None
) -> Callable[[], Env]:
    """Give a function that makes one more environment of the same kind.

    :param perturbation: what disturbs its episodes; None: nothing.
    """
    if perturbation is None or perturbation == Perturbation():
        return lambda: make_environment(env_id, env_kwargs)
    from rl_evaluator.playing.perturbations import perturb  # it imports this module

    return lambda: perturb(make_environment(env_id, env_kwargs), perturbation)


def _suggest(env_id: str) -> str:
    known = sorted(gymnasium.registry)
    close = difflib.get_close_matches(env_id, known, n=3, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    if ":" not in env_id:
        return (
            "; an environment of your own is written package:Env-v0, with its wheel under "
            "`requirements`"
        )
    return "; importing the package did not register it"
