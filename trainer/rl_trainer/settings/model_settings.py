"""Read hyper-parameters in rl_zoo3's form, and convert them to arguments for SB3's constructors.

Source of the form: https://github.com/DLR-RM/rl-baselines3-zoo/blob/master/rl_zoo3/exp_manager.py
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rl_lifecycle.experiment.algorithms import ALGORITHMS, Algorithm, Family
from rl_lifecycle.experiment.wrappers import WrapperForm, wrappers_of
from rl_trainer.errors import BadInputError
from rl_trainer.settings.algorithm_classes import load_class
from rl_trainer.settings.hyperparameter_checks import SCHEDULED, ZOO_KEYS, check_hyperparameters
from rl_trainer.settings.literals import parse_expression

#: Keys whose value may be written as a Python expression, such as `dict(net_arch=[64, 64])`.
EXPRESSIONS = (
    "policy_kwargs",
    "replay_buffer_class",
    "replay_buffer_kwargs",
    "monitor_kwargs",
    "normalize",
)
POLICIES = (
    "MlpPolicy",
    "CnnPolicy",
    "MultiInputPolicy",
    "MlpLstmPolicy",
    "CnnLstmPolicy",
    "MultiInputLstmPolicy",
    "LinearPolicy",
)
MONITOR_KEYS = ("allow_early_resets", "info_keywords", "reset_keywords")
NOISES = ("normal", "ornstein-uhlenbeck")


@dataclass(frozen=True)
class ModelSettings:
    """The settings from a spec's hyper-parameters, for its environments and its algorithm."""

    algorithm: Algorithm
    policy: str
    n_envs: int
    model_kwargs: dict[str, Any]
    normalize: dict[str, Any] | None
    frame_stack: int | None
    wrappers: tuple[WrapperForm, ...]
    monitor_kwargs: dict[str, Any]
    noise: tuple[str, float] | None


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
    values = {key: _expression(key, value) for key, value in hyperparameters.items()}
    check_hyperparameters(algorithm, values)
    gamma = values.get("gamma")
    kwargs = {key: _model_value(key, value) for key, value in values.items() if key not in ZOO_KEYS}
    return ModelSettings(
        algorithm=algorithm,
        policy=_policy(algorithm, values),
        n_envs=_n_envs(algorithm, values),
        model_kwargs=kwargs,
        normalize=_normalize(values.get("normalize", False), gamma),
        frame_stack=values.get("frame_stack"),
        wrappers=_wrappers(values.get("env_wrapper")),
        monitor_kwargs=_monitor_kwargs(values.get("monitor_kwargs")),
        noise=_noise(values),
    )


def _n_envs(algorithm: Algorithm, values: Mapping[str, Any]) -> int:
    """Return the number of environments that are stepped side by side.

    For an algorithm that plays whole episodes, rl_zoo3's `n_envs` counts worker processes. The
    trainer uses one process, so it uses one environment.
    """
    return 1 if algorithm.family is Family.EPISODES else int(values.get("n_envs", 1))


def _expression(key: str, value: Any) -> Any:
    return parse_expression(value, key) if key in EXPRESSIONS and isinstance(value, str) else value


def _model_value(key: str, value: Any) -> Any:
    if key in SCHEDULED and value is not None:
        return _schedule(key, value)
    if key == "train_freq" and isinstance(value, list):
        return tuple(value)
    if key in ("policy_kwargs", "replay_buffer_kwargs"):
        if not isinstance(value, dict):
            raise BadInputError(
                f"hyperparameters.{key}: must be a mapping or dict(…), not {value!r}"
            )
        return {name: _expression_inside(key, inner) for name, inner in value.items()}
    return value


def _expression_inside(key: str, value: Any) -> Any:
    """Read a class name inside a mapping, such as `activation_fn: nn.ReLU`."""
    return (
        parse_expression(value, key)
        if isinstance(value, str) and value.startswith(("nn.", "th.", "torch."))
        else value
    )


def _schedule(key: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadInputError(
            f"hyperparameters.{key}: must be a number or lin_<number>, not {value!r}"
        )
    if not isinstance(value, str):
        return float(value)
    kind, _, initial = value.partition("_")
    try:
        if kind != "lin":
            return float(value)
        return LinearDecay(float(initial))
    except ValueError:
        raise BadInputError(
            f"hyperparameters.{key}: must be a number or lin_<number>, not {value!r}"
        ) from None


def _policy(algorithm: Algorithm, values: Mapping[str, Any]) -> str:
    policy = values.get("policy", algorithm.default_policy)
    aliases = load_class(algorithm).policy_aliases
    if policy not in POLICIES or policy not in aliases:
        allowed = ", ".join(sorted(aliases))
        raise BadInputError(
            f"hyperparameters.policy: {policy!r} is unknown to {algorithm.name}; allowed: {allowed}"
        )
    return str(policy)


def _normalize(value: Any, gamma: float | None) -> dict[str, Any] | None:
    """Return VecNormalize's arguments. As in rl_zoo3, they include the algorithm's discount."""
    if value is False or value is None:
        return None
    if value is not True and not isinstance(value, dict):
        raise BadInputError(
            f"hyperparameters.normalize: must be true, false or dict(norm_obs=…), not {value!r}"
        )
    given = dict(value) if isinstance(value, dict) else {}
    allowed = (
        "norm_obs",
        "norm_reward",
        "clip_obs",
        "clip_reward",
        "epsilon",
        "gamma",
        "norm_obs_keys",
    )
    for key in given:
        if key not in allowed:
            raise BadInputError(
                f"hyperparameters.normalize.{key}: unknown; allowed: {', '.join(allowed)}"
            )
    for key in ("norm_obs", "norm_reward"):
        if not isinstance(given.get(key, True), bool):
            raise BadInputError(
                f"hyperparameters.normalize.{key}: must be true or false, not {given[key]!r}"
            )
    return {**given, "gamma": gamma} if gamma is not None else given


def _monitor_kwargs(value: Any) -> dict[str, Any]:
    given = dict(value) if isinstance(value, Mapping) else {}
    if (value is not None and not isinstance(value, Mapping)) or given.keys() - set(MONITOR_KEYS):
        raise BadInputError(
            f"hyperparameters.monitor_kwargs: must be a mapping of {', '.join(MONITOR_KEYS)}, not "
            f"{value!r}"
        )
    return given


def _wrappers(value: Any) -> tuple[WrapperForm, ...]:
    entries = value if isinstance(value, list) else [] if value is None else [value]
    for entry in entries:
        if not isinstance(entry, str) and not (isinstance(entry, dict) and len(entry) == 1):
            raise BadInputError(
                "hyperparameters.env_wrapper: must be a dotted name, or a name with its arguments, "
                f"not {entry!r}"
            )
    return wrappers_of({"env_wrapper": entries})


def _noise(values: Mapping[str, Any]) -> tuple[str, float] | None:
    kind = values.get("noise_type")
    if kind is None:
        return None
    if str(kind).strip() not in NOISES:
        raise BadInputError(
            f"hyperparameters.noise_type: {kind!r} is unknown; allowed: {', '.join(NOISES)}"
        )
    if "noise_std" not in values:
        raise BadInputError("hyperparameters.noise_std: is missing; noise_type needs a noise_std")
    return str(kind).strip(), float(values["noise_std"])
