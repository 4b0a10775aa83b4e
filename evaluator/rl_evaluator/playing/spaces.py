"""Describe Gymnasium spaces in the contract's form, and compare a policy's and an environment's."""

from typing import Any

import numpy as np
from gymnasium import spaces

from rl_evaluator.errors import EnvironmentFailedError, SpaceMismatchError
from rl_lifecycle.evaluation.action_masks import (
    allowed_options,
    choice_sizes,
    find_mask_problem,
)
from rl_lifecycle.evaluation.policies import SpaceForm


def describe_space(space: spaces.Space[Any], env_id: str = "environment") -> SpaceForm:
    """Describe a space in the contract's form.

    :raises EnvironmentFailedError: if the contract has no such kind of space.
    """
    if isinstance(space, spaces.Box):
        return SpaceForm(
            kind="Box",
            shape=space.shape,
            dtype=str(space.dtype),
            low=_bound(space.low),
            high=_bound(space.high),
        )
    if isinstance(space, spaces.Discrete):
        return SpaceForm(
            kind="Discrete", dtype=str(space.dtype), n=int(space.n), start=int(space.start)
        )
    if isinstance(space, spaces.MultiDiscrete):
        return SpaceForm(
            kind="MultiDiscrete",
            shape=space.shape,
            dtype=str(space.dtype),
            n=tuple(space.nvec.ravel().tolist()),
            start=_start(space.start),
        )
    if isinstance(space, spaces.MultiBinary):
        return SpaceForm(
            kind="MultiBinary",
            shape=space.shape,
            dtype=str(space.dtype),
            n=int(np.prod(space.shape)),
        )
    if isinstance(space, spaces.Dict):
        return SpaceForm(
            kind="Dict",
            spaces={name: describe_space(part, env_id) for name, part in space.spaces.items()},
        )
    raise EnvironmentFailedError(
        env_id,
        f"its space {space} is not supported; use Box, Discrete, MultiDiscrete or MultiBinary, "
        "or for observations a Dict of these",
    )


def _bound(values: np.ndarray[Any, Any]) -> float | tuple[float, ...] | None:
    """Return one number if all elements are equal, and None if any element is unbounded."""
    if not np.isfinite(values).all():
        return None
    flat = values.ravel().tolist()
    return float(flat[0]) if len(set(flat)) == 1 else tuple(float(value) for value in flat)


def _start(values: np.ndarray[Any, Any]) -> int | tuple[int, ...]:
    """Return 0 if every choice counts from 0."""
    return tuple(values.ravel().tolist()) if values.any() else 0


def check_spaces(
    env_id: str, observation: tuple[SpaceForm, SpaceForm], action: tuple[SpaceForm, SpaceForm]
) -> None:
    """Refuse a policy whose spaces differ from the environment's.

    :param observation: the observation spaces of the policy and of the environment.
    :param action: the action spaces of the policy and of the environment.
    :raises SpaceMismatchError: if a space differs; the message names the first one.
    """
    for which, (policy, environment) in (
        ("observation space", observation),
        ("action space", action),
    ):
        if not _fits(policy, environment, bounds=which == "action space"):
            raise SpaceMismatchError(env_id, which, _words(policy), _words(environment))


def _fits(policy: SpaceForm, environment: SpaceForm, *, bounds: bool) -> bool:
    """Compare two spaces.

    :param bounds: whether to compare bounds. Those of observations may differ, because a policy
        takes any number of the right shape.
    """
    if policy.kind == "Dict" or environment.kind == "Dict":
        return (
            policy.kind == environment.kind
            and policy.spaces.keys() == environment.spaces.keys()
            and all(
                _fits(policy.spaces[name], environment.spaces[name], bounds=bounds)
                for name in policy.spaces
            )
        )
    if (policy.kind, policy.shape, _counts(policy), policy.start) != (
        environment.kind,
        environment.shape,
        _counts(environment),
        environment.start,
    ):
        return False
    if environment.kind != "Box" or not bounds:
        return True
    return _same_bound(policy.low, environment.low) and _same_bound(policy.high, environment.high)


def _counts(space: SpaceForm) -> tuple[int, ...]:
    """Return `n` as a tuple; empty for MultiBinary, whose shape already gives the counts."""
    if space.kind == "MultiBinary" or space.n is None:
        return ()
    return space.n if isinstance(space.n, tuple) else (space.n,)


def _same_bound(
    first: float | tuple[float, ...] | None, second: float | tuple[float, ...] | None
) -> bool:
    if first is None or second is None:
        return True
    return (
        bool(np.allclose(np.broadcast_arrays(first, second)[0], second))
        if np.size(first) in (1, np.size(second))
        else False
    )


def is_allowed(space: spaces.Space[Any], action: Any, mask: np.ndarray[Any, Any]) -> bool:
    """Return whether a mask allows an action."""
    options = _options(space, action)
    return allowed_options(options, mask.tolist(), choice_sizes(describe_space(space))) == options


def make_allowed(space: spaces.Space[Any], action: Any, mask: np.ndarray[Any, Any]) -> Any:
    """Return the action, or an allowed one in its place. Equal arguments give equal answers.

    :raises ValueError: if the mask allows nothing.
    """
    sizes, values = choice_sizes(describe_space(space)), mask.tolist()
    if problem := find_mask_problem(values, sizes):
        raise ValueError(f"action_masks() {problem}")
    options = np.add(allowed_options(_options(space, action), values, sizes), _starts(space))
    if isinstance(space, spaces.Discrete):
        return np.int64(options[0])
    return options.reshape(space.shape).astype(space.dtype)


def _options(space: spaces.Space[Any], action: Any) -> tuple[int, ...]:
    """Return the chosen option of each choice, counted from 0."""
    chosen = np.asarray(action, np.int64).reshape(-1) - _starts(space)
    return tuple(int(option) for option in chosen)


def _starts(space: spaces.Space[Any]) -> Any:
    start = getattr(space, "start", 0)
    return np.asarray(start, np.int64).reshape(-1)


def _plain(start: int | tuple[int, ...]) -> int | list[int]:
    return list(start) if isinstance(start, tuple) else start


def _words(space: SpaceForm) -> str:
    if space.kind == "Dict":
        return (
            "Dict("
            + ", ".join(f"{name}: {_words(part)}" for name, part in sorted(space.spaces.items()))
            + ")"
        )
    size = {"Discrete": f"{space.n}", "MultiDiscrete": f"{list(_counts(space))}"}.get(
        space.kind, f"{list(space.shape)}"
    )
    start = f", start={_plain(space.start)}" if space.start else ""
    bounds = f", {space.low}…{space.high}" if space.kind == "Box" and space.low is not None else ""
    return f"{space.kind}({size}{start}{bounds})"
