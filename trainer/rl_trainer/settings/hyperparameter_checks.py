"""Checks of hyper-parameters: types, ranges and combinations. They run before a model is built."""

import difflib
from collections.abc import Mapping
from typing import Any

from rl_lifecycle.experiment.algorithms import Algorithm
from rl_trainer.errors import BadInputError

#: Keys of rl_zoo3 that are not arguments of an algorithm's constructor.
ZOO_KEYS = (
    "env_wrapper",
    "frame_stack",
    "monitor_kwargs",
    "n_envs",
    "n_timesteps",
    "noise_std",
    "noise_type",
    "normalize",
    "policy",
)
#: Keys whose value may change during the training (`lin_0.001`).
SCHEDULED = ("learning_rate", "clip_range", "clip_range_vf", "delta_std")
#: Keys whose type cannot be seen from their default.
INTEGERS = ("n_envs", "frame_stack", "n_top")
NUMBERS = ("noise_std", "target_kl", "max_grad_norm", "alive_bonus_offset")
#: The lowest and the highest value of a key. None means no limit.
RANGES: dict[str, tuple[float | None, float | None]] = {
    **dict.fromkeys(
        (
            "n_envs",
            "n_steps",
            "n_epochs",
            "buffer_size",
            "frame_stack",
            "n_delta",
            "n_top",
            "n_eval_episodes",
            "policy_delay",
            "target_update_interval",
            "n_critic_updates",
            "sub_sampling_factor",
            "cg_max_steps",
        ),
        (1, None),
    ),
    **dict.fromkeys(
        (
            "gamma",
            "gae_lambda",
            "tau",
            "exploration_fraction",
            "exploration_initial_eps",
            "exploration_final_eps",
        ),
        (0, 1),
    ),
    **dict.fromkeys(
        (
            "learning_starts",
            "noise_std",
            "vf_coef",
            "top_quantiles_to_drop_per_net",
            "target_kl",
            "max_grad_norm",
            "learning_rate",
            "clip_range",
            "clip_range_vf",
            "delta_std",
        ),
        (0, None),
    ),
    "gradient_steps": (-1, None),
    "batch_size": (1, None),
}


def check_hyperparameters(algorithm: Algorithm, values: Mapping[str, Any]) -> None:
    """Check hyper-parameters before they are converted to their types.

    :raises BadInputError: naming the first key that is wrong.
    """
    defaults = algorithm.settings
    allowed = sorted({*defaults, *ZOO_KEYS})
    for key, value in values.items():
        if key not in allowed:
            close = difflib.get_close_matches(key, allowed, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise BadInputError(
                f"hyperparameters.{key}: unknown for {algorithm.name}{hint}; allowed: "
                f"{', '.join(allowed)}"
            )
        if value is not None:
            _check_type(key, value, defaults.get(key))
            _check_range(key, value)
    _check_combinations(values)
    _check_minibatches(algorithm, values)


def _check_type(key: str, value: Any, default: Any) -> None:
    """Require the type of the key's default. Schedules, pairs and `auto` are exceptions."""
    if key in SCHEDULED or (key == "train_freq" and isinstance(value, list | tuple)):
        return
    if isinstance(default, bool):
        _require(isinstance(value, bool), key, "true or false", value)
    elif isinstance(default, str):  # ent_coef and target_entropy
        _require(
            _is_number(value) or (isinstance(value, str) and value.startswith("auto")),
            key,
            "a number or auto",
            value,
        )
    elif key in NUMBERS or isinstance(default, float):
        _require(_is_number(value), key, "a number", value)
    elif key in INTEGERS or isinstance(default, int):
        _require(
            isinstance(value, int) and not isinstance(value, bool), key, "a whole number", value
        )


def _check_range(key: str, value: Any) -> None:
    low, high = RANGES.get(key, (None, None))
    number = _scheduled_number(value) if key in SCHEDULED else value
    if not _is_number(number):
        return
    if (low is not None and number < low) or (high is not None and number > high):
        allowed = f"at least {low:g}" if high is None else f"from {low:g} to {high:g}"
        raise BadInputError(f"hyperparameters.{key}: must be {allowed}, not {value!r}")


def _check_combinations(values: Mapping[str, Any]) -> None:
    """Refuse combinations that SB3 would refuse later, or that cannot be resumed exactly."""
    frequency = values.get("train_freq")
    if isinstance(frequency, list) and frequency[-1] == "episode" and values.get("n_envs", 1) > 1:
        raise BadInputError(
            "hyperparameters.train_freq: a number of episodes needs n_envs: 1; give a number of "
            "steps instead"
        )
    if values.get("optimize_memory_usage"):
        raise BadInputError(
            "hyperparameters.optimize_memory_usage: true cannot be resumed exactly, because the "
            "last transition of a segment would lose its next observation; remove this key"
        )
    if (values.get("replay_buffer_kwargs") or {}).get("copy_info_dict"):
        raise BadInputError(
            "hyperparameters.replay_buffer_kwargs: copy_info_dict=True cannot be resumed exactly, "
            "because infos may hold any object; remove copy_info_dict"
        )
    if "top_quantiles_to_drop_per_net" in values:
        policy_kwargs = values.get("policy_kwargs")
        quantiles = policy_kwargs.get("n_quantiles", 25) if isinstance(policy_kwargs, dict) else 25
        if values["top_quantiles_to_drop_per_net"] >= quantiles:
            raise BadInputError(
                "hyperparameters.top_quantiles_to_drop_per_net: must be less than n_quantiles = "
                f"{quantiles}, not {values['top_quantiles_to_drop_per_net']!r}"
            )


def _check_minibatches(algorithm: Algorithm, values: Mapping[str, Any]) -> None:
    """Refuse a batch size that does not fit a rollout.

    SB3 would only warn, and would then train on smaller minibatches.
    """
    if algorithm.minibatches is None:
        return
    defaults = algorithm.settings
    rollout = values.get("n_envs", 1) * values.get("n_steps", defaults["n_steps"])
    batch = values.get("batch_size", defaults["batch_size"])
    if batch < 2 or batch > rollout:
        raise BadInputError(
            f"hyperparameters.batch_size: {batch} does not fit a rollout of n_steps × n_envs = "
            f"{rollout} steps; allowed: 2 to {rollout}"
        )
    if (
        rollout % batch == 1
        and algorithm.minibatches == "all"
        and values.get("normalize_advantage", True)
    ):
        raise BadInputError(
            f"hyperparameters.batch_size: {batch} leaves a last minibatch of one step from a "
            f"rollout of n_steps × n_envs = {rollout} steps, and one advantage cannot be "
            f"normalised; choose another size, best a divisor of {rollout}"
        )


def _scheduled_number(value: Any) -> Any:
    """Return the number in `0.1` or `lin_0.1`; None for any other text."""
    try:
        return float(value.removeprefix("lin_")) if isinstance(value, str) else value
    except ValueError:
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require(holds: bool, key: str, what: str, value: Any) -> None:
    if not holds:
        raise BadInputError(f"hyperparameters.{key}: must be {what}, not {value!r}")
