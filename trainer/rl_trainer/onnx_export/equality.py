"""Check that an exported policy acts as its model does.

Both act on sampled observations, and on observations from the training if there are any.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from pydantic import JsonValue

from rl_lifecycle.evaluation.action_masks import choice_sizes
from rl_lifecycle.evaluation.policies import (
    ACTION,
    ACTION_MASKS,
    OBSERVATION,
    STATE_IN,
    STATE_OUT,
)
from rl_trainer.errors import TrainerError
from rl_trainer.onnx_export.observations import Space
from rl_trainer.onnx_export.reference import Observations, Reference, rows_of
from rl_trainer.onnx_export.spaces import space_form

#: Number of sampled observations.
SAMPLED = 256
#: Observations from this size on are replaced, because networks overflow on them.
LARGEST = 1e6
STEPS_IF_RECURRENT = 3
#: Largest allowed difference of a continuous action, as a part of the action's range.
TOLERANCE = 1e-4
#: Largest allowed part of the observations with different discrete actions. Rounding can change the
#: choice when two actions have nearly equal values.
LEVEL = 0.01


class UnequalPolicyError(TrainerError):
    """The exported policy does not act as the model that it was made from."""


def compare(
    onnx_policy: bytes,
    reference: Callable[[int], Reference],
    space: Space,
    action_space: Space,
    *,
    visited: Observations | None = None,
    recurrent: bool = False,
) -> dict[str, JsonValue]:
    """Run the exported policy and the model on the same observations, and compare the actions.

    Each observation is the first one of a separate episode. A policy that was trained under action
    masks gets random masks.

    :param reference: makes the model's side for a number of rows.
    :param visited: observations from the training, as the environment gave them; None to use
        sampled observations only.
    :param recurrent: take several steps, because the policy has a state.
    :return: the record for the metadata: the number of observations, the number of different
        actions, and their largest difference.
    :raises UnequalPolicyError: if the actions differ by more than rounding explains.
    """
    found: dict[str, JsonValue] = {"tolerance": TOLERANCE}
    batches = {
        "sampled": sample_observations(space, SAMPLED),
        **({"visited": visited} if visited is not None else {}),
    }
    for name, observations in batches.items():
        rows, differing, largest = rows_of(observations), 0, 0.0
        expected, exported = reference(rows), ExportedSession(onnx_policy, rows)
        masks = sample_masks(action_space, rows) if exported.needs_masks else None
        for _ in range(STEPS_IF_RECURRENT if recurrent else 1):
            step = _difference(
                exported.act(observations, masks), expected.act(observations, masks), action_space
            )
            differing, largest = max(differing, step[0]), max(largest, step[1])
        found |= {name: rows, f"{name}_differing": differing, f"{name}_largest_difference": largest}
        _check(name, rows, differing, largest, action_space)
    return found


def sample_observations(space: Space, rows: int) -> Observations:
    """Draw observations from a copy of the space. Every call draws the same ones."""
    seeded = copy.deepcopy(space)
    seeded.seed(0)
    drawn = [seeded.sample() for _ in range(rows)]
    if isinstance(space, spaces.Dict):
        return {
            key: _within_reason(np.stack([sample[key] for sample in drawn])) for key in space.spaces
        }
    return _within_reason(np.stack(drawn))


def sample_masks(space: Space, rows: int) -> np.ndarray[Any, Any]:
    """Draw masks that allow at least one option of each choice. Every call draws the same ones."""
    rng, sizes = np.random.default_rng(0), choice_sizes(space_form(space))
    masks = rng.random((rows, sum(sizes))) < 0.5
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        masks[np.arange(rows), end - size + rng.integers(0, size, rows)] = True
    return masks


def _within_reason(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Replace huge numbers with normal ones.

    Some spaces are bounded by the largest float. No environment gives such numbers, and networks
    overflow on them.
    """
    if values.dtype.kind != "f":
        return values
    reasonable = np.random.default_rng(0).normal(size=values.shape).astype(values.dtype)
    return np.where(np.abs(values) < LARGEST, values, reasonable)


class ExportedSession:
    """Runs an ONNX policy on several episodes at once, from their first steps on."""

    def __init__(self, onnx_policy: bytes, rows: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(
            onnx_policy, options, providers=["CPUExecutionProvider"]
        )
        names = [node.name for node in self._session.get_inputs()]
        #: Whether the policy was trained under action masks.
        self.needs_masks = ACTION_MASKS in names
        self._state = {
            node.name: np.zeros((rows, *node.shape[1:]), np.float32)
            for node in self._session.get_inputs()
            if node.name == STATE_IN
        }

    def act(
        self, observations: Observations, masks: np.ndarray[Any, Any] | None = None
    ) -> np.ndarray[Any, Any]:
        """Return the deterministic actions, one per row."""
        feeds = (
            dict(observations) if isinstance(observations, Mapping) else {OBSERVATION: observations}
        )
        if masks is not None:
            feeds[ACTION_MASKS] = masks
        outputs = [ACTION, *([STATE_OUT] if self._state else [])]
        actions, *states = self._session.run(outputs, feeds | self._state)
        self._state = dict.fromkeys(self._state, states[0]) if states else {}
        found: np.ndarray[Any, Any] = actions
        return found


def _difference(
    exported: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], space: Space
) -> tuple[int, float]:
    """Return the number of different actions, and their largest difference.

    The difference is a part of the action's range. It is 0 unless the space is a Box.
    """
    if exported.shape != expected.shape:
        raise UnequalPolicyError(
            f"the exported policy's actions have the shape {exported.shape}, but the model's "
            f"actions have the shape {expected.shape}"
        )

    rows = len(exported)
    differs = (exported != expected).reshape(rows, -1).any(axis=1)
    if not isinstance(space, spaces.Box):
        return int(differs.sum()), 0.0
    return int(differs.sum()), float(
        (np.abs(exported - expected) / (space.high - space.low)).max(initial=0.0)
    )


def _check(name: str, rows: int, differing: int, largest: float, space: Space) -> None:
    if isinstance(space, spaces.Box):
        if not largest <= TOLERANCE:
            raise UnequalPolicyError(
                f"on {name} observations the exported policy's actions differ from the model's by "
                f"{largest:.2g} of their range; at most {TOLERANCE:.2g} is allowed"
            )
    elif differing > LEVEL * rows:
        raise UnequalPolicyError(
            f"on {differing} of {rows} {name} observations the exported policy chooses another "
            f"action than the model; at most {LEVEL:.0%} are allowed"
        )
