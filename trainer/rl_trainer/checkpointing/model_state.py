"""What a model is between two segments: named arrays and numbers, with nothing that executes code
when it is read.

SB3's own `model.zip` is a pickle, keeps no generator state and no normalisation statistics. A
segment starts from a new model, so whatever is not captured here cannot leak from one segment into
the next.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.vec_env import VecNormalize

from rl_trainer.checkpointing.digests import NORMALISATION, POLICY
from rl_trainer.checkpointing.replay_memory import ReplayMemory, Stored, attach

Arrays = dict[str, np.ndarray[Any, Any]]
#: Counters that learning depends on, each where an algorithm has it.
COUNTERS = (
    "num_timesteps",
    "_n_updates",
    "_episode_num",
    "_n_calls",
    "exploration_rate",
    "_current_progress_remaining",
)


@dataclass(frozen=True)
class ModelState:
    """Arrays by name, everything else as JSON, and the replay buffer of an algorithm that has
    one.
    """

    arrays: Arrays
    values: dict[str, Any]
    memory: ReplayMemory | None = None

    def to_files(self) -> dict[str, bytes]:
        """Write it as the files of a checkpoint; the buffer's chunks are stored on their own."""
        values = (
            self.values
            if self.memory is None
            else {**self.values, "memory": self.memory.to_values()}
        )
        return {
            "state.safetensors": save_safetensors(self.arrays),
            "state.json": json.dumps(values, sort_keys=True).encode(),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], chunks: Sequence[Stored] = ()) -> "ModelState":
        """Read it back.
        :param chunks: the replay buffer's, oldest first; they are read when it is filled.
        """
        values = json.loads(files["state.json"])
        memory = (
            ReplayMemory.from_values(values.pop("memory"), chunks) if "memory" in values else None
        )
        return cls(load_safetensors(files["state.safetensors"]), values, memory)


def capture(model: Any) -> ModelState:
    """Copy a model's state out of it: parameters, optimizers, statistics, counters."""
    names, variables = model._get_torch_save_params()
    arrays: Arrays = {}
    values: dict[str, Any] = {
        "counters": {key: getattr(model, key) for key in COUNTERS if hasattr(model, key)}
    }
    for name in names:
        part = recursive_getattr(model, name)
        if isinstance(part, torch.optim.Optimizer):
            values[name] = _capture_optimizer(name, part, arrays)
        else:
            arrays |= {f"{name}/{key}": _array(tensor) for key, tensor in part.state_dict().items()}
    for name in variables:
        variable = recursive_getattr(model, name)
        if variable is not None:
            arrays[f"variable/{name}"] = _array(variable)
    arrays |= capture_normalisation(model.get_vec_normalize_env())
    return ModelState(arrays, values)


def restore(model: Any, state: ModelState) -> None:
    """Put a captured state into a new model of the same spec."""
    names, _ = model._get_torch_save_params()
    for name in names:
        part = recursive_getattr(model, name)
        if isinstance(part, torch.optim.Optimizer):
            part.load_state_dict(_optimizer_state(name, state))
        else:
            part.load_state_dict(tensors_below(f"{name}/", state.arrays))
    for key, array in state.arrays.items():
        if key.startswith("variable/"):
            recursive_getattr(model, key.removeprefix("variable/")).data.copy_(
                torch.from_numpy(array.copy())
            )
    for key, value in state.values["counters"].items():
        setattr(model, key, value)
    synchronise_weights(model)
    restore_normalisation(model.get_vec_normalize_env(), state.arrays)
    if state.memory is not None:
        attach(model, state.memory)


def synchronise_weights(model: Any) -> None:
    """Give ARS's own copy of its policy's parameters what the policy has; other algorithms have
    none.
    """
    if hasattr(model, "weights"):
        model.weights = torch.nn.utils.parameters_to_vector(model.policy.parameters()).detach()


def final_parameters(state: ModelState) -> Arrays:
    """The arrays that the digest is over, and that a warm start begins with: the policy's, and the
    statistics.
    """
    return {
        key: array for key, array in state.arrays.items() if key.startswith((POLICY, NORMALISATION))
    }


def first_not_finite(arrays: Arrays) -> str | None:
    """Name an array that holds a NaN or an infinity; None if all are finite."""
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return name
    return None


def _array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    return np.array(tensor.detach().cpu().numpy(), order="C", copy=True)


def _capture_optimizer(
    name: str, optimizer: torch.optim.Optimizer, arrays: Arrays
) -> dict[str, Any]:
    document = optimizer.state_dict()
    numbers: dict[str, Any] = {}
    for index, slots in document["state"].items():
        for slot, value in slots.items():
            if isinstance(value, torch.Tensor):
                arrays[f"{name}/{index}/{slot}"] = _array(value)
            else:
                numbers[f"{index}/{slot}"] = value
    return {"param_groups": document["param_groups"], "numbers": numbers}


def _optimizer_state(name: str, state: ModelState) -> dict[str, Any]:
    slots: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors_below(f"{name}/", state.arrays).items():
        index, _, slot = key.partition("/")
        slots.setdefault(int(index), {})[slot] = tensor
    for key, value in state.values[name]["numbers"].items():
        index, _, slot = key.partition("/")
        slots.setdefault(int(index), {})[slot] = value
    groups = [
        {key: tuple(value) if key == "betas" else value for key, value in group.items()}
        for group in state.values[name]["param_groups"]
    ]
    return {"state": slots, "param_groups": groups}


def tensors_below(prefix: str, arrays: Arrays) -> dict[str, torch.Tensor]:
    """Copies of the arrays whose names begin with a prefix, by the rest of the name."""
    return {
        key.removeprefix(prefix): torch.from_numpy(array.copy())
        for key, array in arrays.items()
        if key.startswith(prefix)
    }


def capture_normalisation(statistics: VecNormalize | None) -> Arrays:
    """Copy running statistics; none without an environment that normalises."""
    if statistics is None:
        return {}
    arrays: Arrays = {}
    for name, moments in _moments(statistics).items():
        arrays[f"{NORMALISATION}{name}/mean"] = np.array(moments.mean, np.float64)
        arrays[f"{NORMALISATION}{name}/var"] = np.array(moments.var, np.float64)
        arrays[f"{NORMALISATION}{name}/count"] = np.array(moments.count, np.float64)
    return arrays


def restore_normalisation(statistics: VecNormalize | None, arrays: Arrays) -> None:
    """Put captured statistics into an environment; nothing happens without one that normalises."""
    if statistics is None:
        return
    for name, moments in _moments(statistics).items():
        moments.mean = _scalar_or_array(arrays[f"{NORMALISATION}{name}/mean"])
        moments.var = _scalar_or_array(arrays[f"{NORMALISATION}{name}/var"])
        moments.count = float(arrays[f"{NORMALISATION}{name}/count"])


def _scalar_or_array(array: np.ndarray[Any, Any]) -> Any:
    """Statistics of returns are NumPy scalars after SB3's first update, and must stay so: scalar
    arithmetic differs.
    """
    return array.copy() if array.ndim else np.float64(array)


def _moments(statistics: VecNormalize) -> dict[str, RunningMeanStd]:
    observed = getattr(statistics, "obs_rms", None)
    named = (
        {f"obs/{key}": moments for key, moments in observed.items()}
        if isinstance(observed, dict)
        else {"obs": observed}
    )
    return {
        name: moments
        for name, moments in {**named, "returns": statistics.ret_rms}.items()
        if moments is not None
    }
