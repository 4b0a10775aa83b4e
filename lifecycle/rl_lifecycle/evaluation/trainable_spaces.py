"""Check that an algorithm and its settings can handle the spaces of an environment.

Airflow calls this with the evaluator's description of the environment, before a machine is rented.
The trainer calls it with its own environment, before it builds a model.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.evaluation.policies import SpaceForm
from rl_lifecycle.experiment.algorithms import ALGORITHMS, Algorithm
from rl_lifecycle.experiment.settings.hyperparameter_checks import normalizes_observations

OBSERVATIONS = ("Box", "Discrete", "MultiDiscrete", "MultiBinary")
#: The keys of the observations that HerReplayBuffer needs.
GOALS = ("observation", "achieved_goal", "desired_goal")


@dataclass(frozen=True)
class _Case:
    """What is checked, and the words for the error message.

    :param values: the checked hyper-parameters
        (:func:`rl_lifecycle.experiment.settings.hyperparameter_checks.read_hyperparameters`).
    """

    algorithm: Algorithm
    values: Mapping[str, Any]
    env_id: str
    source: str

    @property
    def policy(self) -> str:
        """The name of the policy."""
        return str(self.values.get("policy", self.algorithm.default_policy))

    def refusal(self, key: str, problem: str) -> InvalidExperimentError:
        """Return the error that refuses the experiment."""
        return InvalidExperimentError(self.source, key, problem)


def check_spaces(
    algo: str,
    values: Mapping[str, Any],
    env_id: str,
    observation: SpaceForm,
    action: SpaceForm,
    source: str,
) -> None:
    """Refuse spaces that the algorithm, the policy or another setting cannot handle.

    :param values: the checked hyper-parameters.
    :param source: the file or object that holds the experiment, for the error message.
    :raises InvalidExperimentError: naming `env_id`, `algo` or the hyper-parameter, the space, and
        what is allowed.
    """
    case = _Case(ALGORITHMS[algo], values, env_id, source)
    parts = observation.spaces if observation.kind == "Dict" else {"": observation}
    for part in parts.values():
        _check_observation(case, part, observation)
    if not parts:
        raise case.refusal("env_id", f"the observations of {env_id} are an empty Dict")
    _check_actions(case, action)
    _check_policy(case, observation)
    _check_settings(case, observation, parts, action)


def describe(space: SpaceForm) -> str:
    """Describe a space in a few words.

    >>> describe(SpaceForm(kind="MultiDiscrete", shape=(2,), n=(3, 3), start=(1, 1)))
    'MultiDiscrete([3, 3], start=[1, 1])'
    """
    if space.kind == "Dict":
        parts = (f"{name}: {describe(part)}" for name, part in sorted(space.spaces.items()))
        return f"Dict({', '.join(parts)})"
    if space.kind == "Box":
        bounds = f"{_number(space.low)} to {_number(space.high)}, " if space.low is not None else ""
        return f"Box({bounds}shape {_listed(space.shape)}, {space.dtype})"
    start = space.start if isinstance(space.start, int) else list(space.start)
    counted = list(space.n) if isinstance(space.n, tuple) else space.n
    size = _listed(space.shape) if space.kind == "MultiBinary" else f"{counted}"
    shape = f", shape {_listed(space.shape)}" if len(space.shape) > 1 else ""
    return f"{space.kind}({size}{shape}{f', start={start}' if _starts(space) else ''})"


def is_picture(space: SpaceForm) -> bool:
    """Whether SB3 takes a space for a picture: whole numbers from 0 to 255 on three axes."""
    return (
        space.kind == "Box"
        and len(space.shape) == 3
        and space.dtype == "uint8"
        and (space.low, space.high) == (0, 255)
    )


def _check_observation(case: _Case, part: SpaceForm, whole: SpaceForm) -> None:
    problem = ""
    if part.kind not in OBSERVATIONS:
        problem = f"are {', '.join(OBSERVATIONS)} or a Dict of these"
    elif _starts(part):
        problem = "start at 0"
    elif part.kind == "MultiDiscrete" and len(part.shape) != 1:
        problem = "have one axis"
    elif part.kind == "Box" and (not part.shape or 0 in part.shape):
        problem = "have at least one axis and one number, such as shape (1,)"
    if problem:
        raise case.refusal(
            "env_id",
            f"no policy takes the observations of {case.env_id}, {describe(whole)}; wrap the "
            f"environment, so that they {problem}",
        )


def _check_actions(case: _Case, space: SpaceForm) -> None:
    algorithm, words = case.algorithm, f"the actions of {case.env_id}, {describe(space)},"
    if space.kind not in algorithm.actions:
        fitting = sorted(row.name for row in ALGORITHMS.values() if space.kind in row.actions)
        raise case.refusal(
            "algo",
            f"{algorithm.name} cannot handle {words} it needs {' or '.join(algorithm.actions)}; "
            f"algorithms for {space.kind}: {', '.join(fitting) or 'none'}",
        )
    problem = ""
    if _starts(space):
        problem = "do not start at 0; wrap the environment, so that they start at 0"
    elif space.kind != "Box":
        if len(space.shape) > 1:
            problem = "have several axes; wrap the environment, so that they have one"
    elif not space.shape or 0 in space.shape:
        problem = "hold no axis or no number; wrap the environment, so that their shape is (1,)"
    elif space.low is None or space.high is None:
        problem = "are unbounded; wrap the environment, so that they have bounds"
    elif not space.dtype.startswith("float"):
        problem = (
            "are whole numbers, but policies for a Box choose fractions; declare float32 and round "
            "in the environment, or use MultiDiscrete"
        )
    if problem:
        raise case.refusal("env_id", f"{words} {problem}")


def _check_policy(case: _Case, whole: SpaceForm) -> None:
    policy, several = case.policy, whole.kind == "Dict"
    if several != policy.startswith("MultiInput"):
        allowed = [
            name for name in case.algorithm.policies if name.startswith("MultiInput") == several
        ]
        hint = f"allowed: {', '.join(sorted(allowed))}"
        if not allowed:
            hint = f"no policy of {case.algorithm.name} takes them: use another algorithm"
        raise case.refusal(
            "hyperparameters.policy",
            f"{policy} does not take the observations of {case.env_id}, {describe(whole)}; {hint}",
        )
    if not policy.startswith("Cnn"):
        return
    scaled = (case.values.get("policy_kwargs") or {}).get("normalize_images", True)
    picture = is_picture(whole) if scaled else whole.kind == "Box" and len(whole.shape) == 3
    if not picture:
        raise case.refusal(
            "hyperparameters.policy",
            f"{policy} needs images (uint8, 0 to 255, three axes), but {case.env_id} has "
            f"{describe(whole)}; use {policy.replace('Cnn', 'Mlp')}",
        )
    axes = sorted(whole.shape)
    if axes[1] < _SMALLEST_PICTURE:
        raise case.refusal(
            "hyperparameters.policy",
            f"{policy} needs images of at least {_SMALLEST_PICTURE} × {_SMALLEST_PICTURE}, but "
            f"{case.env_id} has {describe(whole)}; use {policy.replace('Cnn', 'Mlp')}, or a "
            "wrapper that enlarges them",
        )


#: The smallest picture that the convolutions of SB3's NatureCNN leave a number of.
_SMALLEST_PICTURE = 36


def _check_settings(
    case: _Case, whole: SpaceForm, parts: Mapping[str, SpaceForm], action: SpaceForm
) -> None:
    values, several = case.values, whole.kind == "Dict"
    if values.get("replay_buffer_class") is not None and not set(GOALS) <= set(parts):
        raise case.refusal(
            "hyperparameters.replay_buffer_class",
            f"HerReplayBuffer needs observations that are a Dict of {', '.join(GOALS)}, but "
            f"{case.env_id} has {describe(whole)}",
        )
    if case.algorithm.keeps_transitions and values.get("n_steps", 1) > 1 and several:
        raise case.refusal(
            "hyperparameters.n_steps",
            f"n-step returns need observations that are no Dict, but {case.env_id} has "
            f"{describe(whole)}; remove n_steps",
        )
    if values.get("use_sde") and action.kind != "Box":
        raise case.refusal(
            "hyperparameters.use_sde",
            f"can only be used with continuous actions, but {case.env_id} has {describe(action)}; "
            "remove it",
        )
    if values.get("frame_stack") and whole.kind != "Box":
        raise case.refusal(
            "hyperparameters.frame_stack",
            f"stacks observations that are a Box, but {case.env_id} has {describe(whole)}; remove "
            "it, or wrap the environment",
        )
    if values.get("normalize") and case.algorithm.keeps_transitions and whole.kind == "Discrete":
        raise case.refusal(
            "hyperparameters.normalize",
            f"cannot be combined with a replay buffer of observations that are Discrete, but "
            f"{case.env_id} has {describe(whole)}; remove it",
        )
    if normalizes_observations(values):
        _check_normalized(case, whole, parts)


def _check_normalized(case: _Case, whole: SpaceForm, parts: Mapping[str, SpaceForm]) -> None:
    normalize, key = case.values.get("normalize"), "hyperparameters.normalize"
    chosen = normalize.get("norm_obs_keys") if isinstance(normalize, dict) else None
    if chosen is not None and whole.kind != "Dict":
        raise case.refusal(
            f"{key}.norm_obs_keys",
            f"needs observations that are a Dict, but {case.env_id} has {describe(whole)}; remove "
            "it",
        )
    for name in parts if chosen is None else chosen:
        if name not in parts:
            raise case.refusal(
                f"{key}.norm_obs_keys",
                f"{case.env_id} has no observation {name!r}; it has {', '.join(sorted(parts))}",
            )
        if parts[name].kind != "Box":
            remedy = (
                "norm_obs_keys: [the keys of Boxes]" if whole.kind == "Dict" else "norm_obs: false"
            )
            raise case.refusal(
                key,
                f"only a Box can be normalized, but {case.env_id} has {describe(whole)}; set "
                f"normalize: {{{remedy}}}",
            )
        if is_picture(parts[name]):
            raise case.refusal(
                key,
                f"images are scaled, not normalized, but {case.env_id} has {describe(whole)}; set "
                "normalize: {norm_obs: false, norm_reward: true}",
            )


def _starts(space: SpaceForm) -> bool:
    """Whether a space counts from another number than 0."""
    return any(space.start) if isinstance(space.start, tuple) else space.start != 0


def _listed(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _number(bound: float | tuple[float, ...] | None) -> str:
    if bound is None:
        return "unbounded"
    if isinstance(bound, tuple):
        return f"{min(bound):g}…{max(bound):g}"
    return f"{bound:g}" if math.isfinite(bound) else "unbounded"
