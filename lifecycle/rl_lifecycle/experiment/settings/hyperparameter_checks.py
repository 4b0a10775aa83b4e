"""Check hyper-parameters by name, type, range and combination.

`freeze_spec` calls this before a machine is rented, and the trainer calls it before it builds a
model. It needs neither torch nor SB3.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Any

from rl_lifecycle.experiment.algorithms import ALGORITHMS, Algorithm, Family
from rl_lifecycle.experiment.settings import keys
from rl_lifecycle.experiment.settings.literals import CLASSES, ClassName, parse_expression
from rl_lifecycle.experiment.settings.places import Place
from rl_lifecycle.experiment.settings.time_limits import with_whole_limit
from rl_lifecycle.experiment.settings.values import Form

DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")

#: Words that are values of an expression.
CONSTANTS = ("True", "False", "None")


def read_hyperparameters(
    algo: str, hyperparameters: Mapping[str, Any], source: str
) -> dict[str, Any]:
    """Check hyper-parameters and convert them to their types.

    :param source: the file or object that holds them, for the error message.
    :return: expressions are parsed, numbers are numbers, and classes are :class:`ClassName`.
    :raises InvalidExperimentError: with the first key that is wrong, and what is allowed there.
    """
    algorithm, place = ALGORITHMS[algo], Place(source, "hyperparameters")
    values = {
        key: _parsed(key, value, place.at(key)) if key in keys.EXPRESSIONS else value
        for key, value in hyperparameters.items()
    }
    forms = keys.forms_of(algorithm)
    read = read_mapping(forms, values, place, f"unknown for {algorithm.name}")
    _read_inner(algorithm, read, place)
    _check_combinations(algorithm, read, place)
    _check_minibatches(algorithm, read, place)
    return read


def freeze_hyperparameters(
    algo: str, hyperparameters: Mapping[str, Any], source: str
) -> dict[str, Any]:
    """Check hyper-parameters and return them as JSON values of their types.

    Expressions stay as text, so a spec shows what its author wrote.

    :raises InvalidExperimentError: with the first key that is wrong, and what is allowed there.
    """
    read = read_hyperparameters(algo, hyperparameters, source)
    return {
        key: value if key in keys.EXPRESSIONS and isinstance(value, str) else _as_json(read[key])
        for key, value in hyperparameters.items()
    }


def read_mapping(
    forms: Mapping[str, Form], values: Mapping[Any, Any], place: Place, unknown: str = "unknown"
) -> dict[str, Any]:
    """Read the values of a mapping whose keys have forms.

    :param unknown: what an unknown key is called.
    :raises InvalidExperimentError: for an unknown key or a wrong value.
    """
    read = {}
    for key, value in values.items():
        if key not in forms:
            close = difflib.get_close_matches(str(key), forms, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            allowed = ", ".join(sorted(forms)) or "no key"
            raise place.at(key).refusal(f"{unknown}{hint}; allowed: {allowed}")
        read[key] = forms[key].read(value, place.at(key))
    return read


def _parsed(key: str, value: Any, place: Place) -> Any:
    """Read an expression. A word alone, such as `true`, is left to the form of the key."""
    if not isinstance(value, str) or not value.strip():
        return value
    if value.strip().isidentifier() and value.strip() not in CONSTANTS:
        return value
    return parse_expression(value, place, tuple(CLASSES) if key == "policy_kwargs" else ())


def _read_inner(algorithm: Algorithm, read: dict[str, Any], place: Place) -> None:
    """Replace the mappings among the values by their checked forms."""
    policy = read.get("policy", algorithm.default_policy)
    for key, forms in (
        ("policy_kwargs", keys.policy_forms(algorithm, policy)),
        ("replay_buffer_kwargs", _replay_forms(read)),
        ("monitor_kwargs", keys.MONITOR_FORMS),
    ):
        if read.get(key) is not None:
            unknown = f"unknown for {algorithm.name}'s {policy}" if "policy" in key else "unknown"
            read[key] = read_mapping(forms, read[key], place.at(key), unknown)
    if read.get("policy_kwargs"):
        inner = read["policy_kwargs"]
        for key, forms in _inner_forms(policy, inner).items():
            if inner.get(key) is not None:
                inner[key] = read_mapping(forms, inner[key], place.at("policy_kwargs").at(key))
    if "normalize" in read:
        read["normalize"] = _normalize(read["normalize"], place.at("normalize"))
    if "env_wrapper" in read:
        read["env_wrapper"] = _wrappers(read["env_wrapper"], place.at("env_wrapper"))


def _replay_forms(read: Mapping[str, Any]) -> dict[str, Form]:
    return keys.HER_FORMS if read.get("replay_buffer_class") is not None else keys.REPLAY_FORMS


def _inner_forms(policy: str, inner: Mapping[str, Any]) -> dict[str, dict[str, Form]]:
    """Return the forms of the mappings inside `policy_kwargs`."""
    optimizer = inner.get("optimizer_class")
    name = optimizer.class_name if isinstance(optimizer, ClassName) else "Adam"
    optimizer_forms = keys.INNER_FORMS["optimizer_kwargs"]
    extractors = keys.EXTRACTOR_FORMS.items()
    return {
        **keys.INNER_FORMS,
        "optimizer_kwargs": {key: optimizer_forms[key] for key in keys.OPTIMIZER_KEYS[name]},
        "features_extractor_kwargs": next(
            forms for start, forms in extractors if policy.startswith(start)
        ),
    }


def _normalize(value: Any, place: Place) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, dict):
        raise place.refusal(f"must be true, false or dict(norm_obs=…), not {value!r:.80}")
    return read_mapping(keys.NORMALIZE_FORMS, value, place)


def _wrappers(value: Any, place: Place) -> Any:
    """Check wrappers. Their arguments stay as they are, apart from whole time limits."""
    if isinstance(value, list):
        return [_wrapper(entry, place) for entry in value]
    return None if value is None else _wrapper(value, place)


def _wrapper(entry: Any, place: Place) -> Any:
    mapping = isinstance(entry, dict) and len(entry) == 1
    name, arguments = next(iter(entry.items())) if mapping else (entry, None)
    if not isinstance(name, str) or not DOTTED.fullmatch(name):
        raise place.refusal(
            "must be a dotted name, or a name with its arguments, such as "
            f"{{gymnasium.wrappers.TimeLimit: {{max_episode_steps: 500}}}}, not {entry!r:.80}"
        )
    if arguments is None:
        return entry
    if not isinstance(arguments, dict) or not all(isinstance(key, str) for key in arguments):
        raise place.refusal(f"the arguments of {name} must be a mapping, not {arguments!r:.80}")
    return {name: with_whole_limit(arguments)}


def _check_combinations(algorithm: Algorithm, read: Mapping[str, Any], place: Place) -> None:
    """Refuse combinations that SB3 would refuse later, or that cannot be resumed exactly."""
    for key, wrong, problem in _combinations(algorithm, read):
        if wrong:
            raise place.at(key).refusal(problem)


def _combinations(
    algorithm: Algorithm, read: Mapping[str, Any]
) -> tuple[tuple[str, bool, str], ...]:
    """Return rows of a key, whether its value is wrong beside the others, and the reason."""
    policy, replay = read.get("policy_kwargs") or {}, read.get("replay_buffer_kwargs") or {}
    optimizer = policy.get("optimizer_kwargs") or {}
    her, frequency = read.get("replay_buffer_class") is not None, read.get("train_freq")
    n_envs, quantiles = read.get("n_envs", 1), policy.get("n_quantiles", 25)
    dropped = read.get("top_quantiles_to_drop_per_net", 0)
    stacked = read.get("frame_stack") is not None
    return (
        (
            "train_freq",
            isinstance(frequency, list) and frequency[-1] == "episode" and n_envs > 1,
            "a number of episodes needs n_envs: 1; give a number of steps instead",
        ),
        (
            "optimize_memory_usage",
            bool(read.get("optimize_memory_usage")),
            "true cannot be resumed exactly, because the last transition of a segment would lose "
            "its next observation; remove this key",
        ),
        (
            "replay_buffer_kwargs",
            bool(replay.get("copy_info_dict")),
            "copy_info_dict=True cannot be resumed exactly, because infos may hold any object; "
            "remove copy_info_dict",
        ),
        (
            "top_quantiles_to_drop_per_net",
            dropped >= quantiles and "top_quantiles_to_drop_per_net" in algorithm.settings,
            f"must be less than n_quantiles = {quantiles}, not {dropped!r}",
        ),
        (
            "frame_stack",
            stacked and algorithm.keeps_transitions and normalizes_observations(read),
            f"cannot be combined with normalized observations for {algorithm.name}, because its "
            "replay buffer keeps observations before they are normalized and stacked; remove it, "
            "or set normalize: {norm_obs: false, norm_reward: true}",
        ),
        (
            "frame_stack",
            stacked and her,
            "cannot be combined with HerReplayBuffer, because goals are not stacked; remove it",
        ),
        (
            "n_steps",
            her and read.get("n_steps", 1) > 1,
            "cannot be combined with HerReplayBuffer, which has no n-step returns; remove it",
        ),
        (
            "noise_std",
            read.get("noise_type") is not None and read.get("noise_std") is None,
            "is missing; noise_type needs a noise_std",
        ),
        (
            "policy_kwargs.squash_output",
            algorithm.family is Family.ON_POLICY
            and bool(policy.get("squash_output"))
            and not read.get("use_sde"),
            "true needs use_sde: true",
        ),
        (
            "policy_kwargs.optimizer_kwargs",
            "use_rms_prop" in algorithm.settings
            and read.get("use_rms_prop", True)
            and "optimizer_kwargs" in policy
            and "optimizer_class" not in policy,
            "has no effect with use_rms_prop: true; set use_rms_prop: false, or optimizer_class",
        ),
        (
            "clip_range_vf",
            read.get("clip_range_vf") == 0,
            "must be more than 0; null switches this clipping off",
        ),
        (
            "policy_kwargs.optimizer_kwargs.nesterov",
            bool(optimizer.get("nesterov"))
            and (not optimizer.get("momentum") or bool(optimizer.get("dampening"))),
            "true needs a momentum above 0, and no dampening",
        ),
        (
            "policy_kwargs.shared_lstm",
            bool(policy.get("shared_lstm")) and policy.get("enable_critic_lstm", True),
            "true needs enable_critic_lstm: false",
        ),
        (
            "monitor_kwargs.reset_keywords",
            bool((read.get("monitor_kwargs") or {}).get("reset_keywords")),
            "names arguments of reset(), and the trainer gives none; remove this key",
        ),
        (
            "policy",
            her and "MultiInput" not in read.get("policy", algorithm.default_policy),
            "must be MultiInputPolicy with HerReplayBuffer, whose observations are a Dict",
        ),
    )


def normalizes_observations(read: Mapping[str, Any]) -> bool:
    """Whether checked hyper-parameters say that observations are normalized."""
    normalize = read.get("normalize")
    return normalize.get("norm_obs", True) if isinstance(normalize, dict) else bool(normalize)


def _check_minibatches(algorithm: Algorithm, read: Mapping[str, Any], place: Place) -> None:
    """Refuse a batch size that does not fit a rollout.

    SB3 would only warn, and would then train on smaller minibatches.
    """
    if algorithm.family is not Family.ON_POLICY:
        return
    defaults = algorithm.settings
    rollout = read.get("n_envs", 1) * read.get("n_steps", defaults["n_steps"])
    normalized = read.get("normalize_advantage", defaults.get("normalize_advantage", True))
    if algorithm.minibatches is None:
        if rollout < 2 and normalized:
            raise place.at("n_steps").refusal(
                "a rollout of n_steps × n_envs = 1 step has one advantage, which cannot be "
                "normalized; set n_steps to at least 2, or normalize_advantage: false"
            )
        return
    batch = read.get("batch_size", defaults["batch_size"])
    if batch < 2 or batch > rollout:
        raise place.at("batch_size").refusal(
            f"{batch} does not fit a rollout of n_steps × n_envs = {rollout} steps; allowed: 2 to "
            f"{rollout}"
        )
    if rollout % batch == 1 and algorithm.minibatches == "all" and normalized:
        raise place.at("batch_size").refusal(
            f"{batch} leaves a last minibatch of one step from a rollout of n_steps × n_envs = "
            f"{rollout} steps, and one advantage cannot be normalised; choose another size, best "
            f"a divisor of {rollout}"
        )


def _as_json(value: Any) -> Any:
    if isinstance(value, ClassName):
        return value.name
    if isinstance(value, dict):
        return {name: _as_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(inner) for inner in value]
    return value
