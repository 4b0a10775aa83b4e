"""Convert hyper-parameters in rl_zoo3's form to arguments for SB3's constructors.

:mod:`rl_lifecycle.experiment.settings.hyperparameter_checks` checks them, here and when the spec is
frozen.
Source of the form: https://github.com/DLR-RM/rl-baselines3-zoo/blob/master/rl_zoo3/exp_manager.py
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.experiment.algorithms import ALGORITHMS, Algorithm
from rl_lifecycle.experiment.hyperparameters import count_environments
from rl_lifecycle.experiment.settings.hyperparameter_checks import read_hyperparameters
from rl_lifecycle.experiment.settings.keys import ZOO_FORMS, forms_of
from rl_lifecycle.experiment.settings.literals import ClassName
from rl_lifecycle.experiment.settings.values import Kind
from rl_lifecycle.experiment.wrappers import WrapperForm, wrappers_of
from rl_trainer.errors import BadInputError


@dataclass(frozen=True)
class ModelSettings:
    """The settings from a spec's hyper-parameters, for its environments and its algorithm.

    :param values: the checked hyper-parameters that the other fields were made from.
    """

    algorithm: Algorithm
    policy: str
    n_envs: int
    model_kwargs: dict[str, Any]
    normalize: dict[str, Any] | None
    frame_stack: int | None
    wrappers: tuple[WrapperForm, ...]
    monitor_kwargs: dict[str, Any]
    noise: tuple[str, float] | None
    values: Mapping[str, Any]


class LinearDecay:
    """The schedule `lin_x` of rl_zoo3: falls from x to 0 over the whole training."""

    def __init__(self, initial: float) -> None:
        self.initial = initial

    def __call__(self, progress_remaining: float) -> float:
        """Return the current value.

        :param progress_remaining: from 1 at the start to 0 at the end of the training.
        """
        return progress_remaining * self.initial

    def __repr__(self) -> str:
        return f"lin_{self.initial}"


def read_settings(algo: str, hyperparameters: Mapping[str, Any]) -> ModelSettings:
    """Check hyper-parameters and convert them to their types.

    :param algo: name of the algorithm in lower case, as in the experiment.
    :raises BadInputError: naming the key that is wrong and what is allowed.
    """
    algorithm = ALGORITHMS[algo]
    try:
        values = read_hyperparameters(algo, hyperparameters, "spec")
    except InvalidExperimentError as error:
        raise BadInputError(f"{error.key}: {error.problem}") from None
    forms = forms_of(algorithm)
    return ModelSettings(
        algorithm=algorithm,
        policy=values.get("policy", algorithm.default_policy),
        n_envs=count_environments(algo, values),
        model_kwargs={
            key: _model_value(forms[key].kind, value)
            for key, value in values.items()
            if key not in ZOO_FORMS
        },
        normalize=_normalize(values.get("normalize"), values.get("gamma")),
        frame_stack=values.get("frame_stack"),
        wrappers=wrappers_of(values),
        monitor_kwargs=_monitor_kwargs(values.get("monitor_kwargs")),
        noise=(values["noise_type"], float(values["noise_std"]))
        if values.get("noise_type") is not None
        else None,
        values=values,
    )


def _model_value(kind: Kind, value: Any) -> Any:
    """Convert a checked value to what SB3's constructor takes."""
    if value is None:
        return None
    if kind is Kind.SCHEDULE:
        text = str(value)
        return LinearDecay(float(text[4:])) if text.startswith("lin_") else float(value)
    if kind is Kind.FREQUENCY:
        return tuple(value) if isinstance(value, list) else value
    return _with_classes(value)


def _with_classes(value: Any) -> Any:
    """Import the classes that a value names, at every depth."""
    if isinstance(value, ClassName):
        return getattr(importlib.import_module(value.module), value.class_name)
    if isinstance(value, dict):
        return {name: _with_classes(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_with_classes(inner) for inner in value)
    return value


def _normalize(value: Any, gamma: float | None) -> dict[str, Any] | None:
    """Return VecNormalize's arguments. As in rl_zoo3, they include the algorithm's discount."""
    if value is False or value is None:
        return None
    given = dict(value) if isinstance(value, dict) else {}
    return {**given, "gamma": gamma} if gamma is not None else given


def _monitor_kwargs(value: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the arguments of SB3's Monitor.

    `info_keywords` names columns of a file that the trainer does not write, so it is left out.
    """
    return {key: inner for key, inner in (value or {}).items() if key == "allow_early_resets"}
