"""Describe Gymnasium spaces in the contract's form."""

from typing import Any

import numpy as np
from gymnasium import spaces

from rl_lifecycle.evaluation.policies import SpaceForm
from rl_trainer.errors import BadInputError


def space_form(space: spaces.Space[Any]) -> SpaceForm:
    """Describe a space in the contract's form.

    :raises BadInputError: if the contract has no such kind of space.
    """
    match space:
        case spaces.Box():
            return SpaceForm(
                kind="Box",
                shape=space.shape,
                dtype=str(space.dtype),
                low=_bound(space.low),
                high=_bound(space.high),
            )
        case spaces.Discrete():
            return SpaceForm(
                kind="Discrete", dtype=str(space.dtype), n=int(space.n), start=int(space.start)
            )
        case spaces.MultiDiscrete():
            return SpaceForm(
                kind="MultiDiscrete",
                shape=space.shape,
                dtype=str(space.dtype),
                n=tuple(int(n) for n in space.nvec.flat),
                start=_start(space.start),
            )
        case spaces.MultiBinary():
            return SpaceForm(kind="MultiBinary", shape=space.shape, dtype=str(space.dtype))
        case spaces.Dict():
            return SpaceForm(
                kind="Dict",
                spaces={str(key): space_form(part) for key, part in space.spaces.items()},
            )
    raise BadInputError(
        f"a space of kind {type(space).__name__} cannot be exported to ONNX; use Box, Discrete, "
        "MultiDiscrete, MultiBinary or Dict"
    )


def _start(values: Any) -> int | tuple[int, ...]:
    """Return 0 if every choice counts from 0."""
    return tuple(int(value) for value in values.flat) if values.any() else 0


def _bound(values: Any) -> float | tuple[float, ...] | None:
    """Return one number if all elements are equal, and None if any element is unbounded."""
    flat = np.asarray(values, np.float64).reshape(-1)
    if not np.isfinite(flat).all():
        return None
    return float(flat[0]) if (flat == flat[0]).all() else tuple(float(value) for value in flat)
