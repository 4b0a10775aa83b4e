"""Whether the exported policy acts as the model does, on observations that were sampled and on some that were visited."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from pydantic import JsonValue
from stable_baselines3.common.vec_env import VecNormalize

from rl_lifecycle.policies import ACTION, OBSERVATION
from rl_trainer.errors import TrainerError
from rl_trainer.onnx_export.observations import Space

SAMPLED = 256
#: Largest difference of a continuous action, as a part of the action's range.
TOLERANCE = 1e-4
#: Discrete actions may differ where two are level to rounding: at most this part of the observations.
LEVEL = 0.01

Observations = np.ndarray[Any, Any] | dict[str, np.ndarray[Any, Any]]


class UnequalPolicyError(TrainerError):
    """The exported policy acts otherwise than the model that it was made from."""


def compare(onnx_policy: bytes, model: Any, space: Space, statistics: VecNormalize | None,
            visited: Observations | None) -> dict[str, JsonValue]:
    """Run both on the same observations.

    :param visited: observations from training, as the environment gave them; None: sampled ones only.
    :return: what the metadata records: how many observations, how many actions differ, and by how much at most.
    :raises UnequalPolicyError: if they differ by more than rounding explains.
    """
    sampled = sample_observations(space, SAMPLED)
    batches = {"sampled": sampled, **({"visited": visited} if visited is not None else {})}
    found: dict[str, JsonValue] = {"tolerance": TOLERANCE}
    for name, observations in batches.items():
        rows = rows_of(observations)
        exported = run_exported(onnx_policy, observations)
        ready = statistics.normalize_obs(observations) if statistics is not None else observations
        expected, _ = model.predict(ready, deterministic=True)
        differing, largest = _difference(exported, np.asarray(expected), model.action_space)
        found |= {name: rows, f"{name}_differing": differing, f"{name}_largest_difference": largest}
        _check(name, rows, differing, largest, model.action_space)
    return found


def sample_observations(space: Space, rows: int) -> Observations:
    """Draw observations from a copy of the space, always the same ones."""
    own = copy.deepcopy(space)
    own.seed(0)
    drawn = [own.sample() for _ in range(rows)]
    if isinstance(space, spaces.Dict):
        return {key: np.stack([sample[key] for sample in drawn]) for key in space.spaces}
    return np.stack(drawn)


def rows_of(observations: Observations) -> int:
    """How many observations there are."""
    return len(next(iter(observations.values()))) if isinstance(observations, Mapping) else len(observations)


def run_exported(onnx_policy: bytes, observations: Observations) -> np.ndarray[Any, Any]:
    """Give the deterministic actions of an ONNX policy."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(onnx_policy, options, providers=["CPUExecutionProvider"])
    feeds = dict(observations) if isinstance(observations, Mapping) else {OBSERVATION: observations}
    actions: np.ndarray[Any, Any] = session.run([ACTION], feeds)[0]
    return actions


def _difference(exported: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], space: Space) -> tuple[int, float]:
    """How many actions differ, and by how much of the range at most (0 for actions that are no numbers)."""
    if exported.shape != expected.shape:
        raise UnequalPolicyError(f"the exported policy gives actions of shape {exported.shape}, the model {expected.shape}")
    rows = len(exported)
    differs = (exported != expected).reshape(rows, -1).any(axis=1)
    if not isinstance(space, spaces.Box):
        return int(differs.sum()), 0.0
    return int(differs.sum()), float((np.abs(exported - expected) / (space.high - space.low)).max(initial=0.0))


def _check(name: str, rows: int, differing: int, largest: float, space: Space) -> None:
    if isinstance(space, spaces.Box):
        if not largest <= TOLERANCE:
            raise UnequalPolicyError(f"on {name} observations the exported policy's actions are off by {largest:.2g} "
                                     "of their range")
    elif differing > LEVEL * rows:
        raise UnequalPolicyError(f"on {differing} of {rows} {name} observations the exported policy acts otherwise "
                                 "than the model")
