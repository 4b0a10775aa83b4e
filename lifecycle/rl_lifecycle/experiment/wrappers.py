"""The wrappers that an experiment trains in. To play its policies, they are needed again."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from rl_lifecycle.errors import ForbiddenWrapperError, InvalidExperimentError
from rl_lifecycle.experiment.experiment import Experiment
from rl_lifecycle.records.record import Record


class WrapperForm(Record):
    """A wrapper that the policy was trained in. The policy needs it wherever it is played.

    `name` is its dotted name.
    """

    name: str
    kwargs: dict[str, JsonValue] = {}


def find_wrapper(name: str, env_id: str, packages: Sequence[str]) -> Callable[..., Any]:
    """Import a wrapper, if it comes from an allowed package.

    :param name: its dotted name.
    :param packages: the packages whose wrappers are allowed. With `package:Env-v0` as `env_id`,
        that package is allowed, too.
    :raises ForbiddenWrapperError: if it comes from another package.
    :raises ImportError, AttributeError: if the package does not have it.

    >>> find_wrapper("shop.wrappers.Scale", "shop:Cart-v0", ["gymnasium.wrappers"])
    Traceback (most recent call last):
        ...
    ModuleNotFoundError: No module named 'shop'
    >>> find_wrapper("os.path.join", "Cart-v0", ["gymnasium.wrappers"])
    Traceback (most recent call last):
        ...
    rl_lifecycle.errors.ForbiddenWrapperError: os.path.join is not allowed; it must come
    from gymnasium.wrappers
    """
    module, _, class_name = name.rpartition(".")
    package, colon, _ = env_id.partition(":")
    allowed = (*packages, *([package.partition(".")[0]] if colon and package else []))
    if not any(module == start or module.startswith(f"{start}.") for start in allowed):
        raise ForbiddenWrapperError(name, allowed)
    found: Callable[..., Any] = getattr(importlib.import_module(module), class_name)
    return found


def remembers_episodes(wrapper: str) -> bool:
    """Whether a wrapper of Gymnasium keeps statistics between episodes.

    With such a wrapper no episode is a function of its seed.

    >>> remembers_episodes("gymnasium.wrappers.NormalizeObservation")
    True
    >>> remembers_episodes("gymnasium.wrappers.TimeLimit")
    False
    """
    package, _, name = wrapper.rpartition(".")
    return package.partition(".")[0] == "gymnasium" and name in (
        "NormalizeObservation",
        "NormalizeReward",
    )


def check_wrappers(experiment: Experiment, hyperparameters: Mapping[str, Any]) -> None:
    """Refuse wrappers that the evaluator cannot use.

    The evaluator has neither SB3 nor torch, and must play what was trained.

    :raises InvalidExperimentError: with the wrapper, and what to use instead.
    """
    for wrapper in wrappers_of(hyperparameters):
        problem = ""
        if wrapper.name.startswith(("stable_baselines3.", "sb3_contrib.", "rl_zoo3.")):
            problem = (
                "is not available where policies are judged; use one of gymnasium.wrappers, "
                "or put it into the environment's wheel"
            )
        elif remembers_episodes(wrapper.name):
            problem = (
                "keeps its statistics outside the policy, so that it cannot be played elsewhere; "
                "use hyperparameters.normalize instead"
            )
        if problem:
            raise InvalidExperimentError(
                f"experiments/{experiment.name}.yaml",
                "hyperparameters.env_wrapper",
                f"{wrapper.name} {problem}",
            )


def wrappers_of(hyperparameters: Mapping[str, Any]) -> tuple[WrapperForm, ...]:
    """The wrappers of a training, innermost first.

    An entry without the right form is left out, because the trainer refuses it.

    >>> [wrapper.name for wrapper in wrappers_of({"env_wrapper": [{"a.B": {"c": 1}}, "d.E"]})]
    ['a.B', 'd.E']
    """
    given = hyperparameters.get("env_wrapper")
    pairs = [
        next(iter(entry.items())) if isinstance(entry, Mapping) and entry else (entry, None)
        for entry in (given if isinstance(given, list | tuple) else [given])
    ]
    return tuple(
        WrapperForm(name=name, kwargs=dict(kwargs or {}))
        for name, kwargs in pairs
        if isinstance(name, str)
    )
