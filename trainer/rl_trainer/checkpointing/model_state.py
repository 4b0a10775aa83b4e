"""The state of a model between two segments, as named arrays and numbers.

Reading this state executes no code. SB3's own `model.zip` is a pickle and holds neither generator
states nor normalisation statistics. A segment starts from a new model, so state that is not
captured here cannot pass from one segment to the next.
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

from rl_trainer.checkpointing.chain import StoredChunk
from rl_trainer.checkpointing.digests import NORMALISATION, POLICY
from rl_trainer.checkpointing.replay_memory import ReplayMemory, attach

Arrays = dict[str, np.ndarray[Any, Any]]
#: Counters that learning depends on. Not every algorithm has all of them.
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
    """Arrays by name, all other values as JSON, and the replay buffer if the algorithm has one."""

    arrays: Arrays
    values: dict[str, Any]
    memory: ReplayMemory | None = None

    def to_files(self) -> dict[str, bytes]:
        """Convert the state to the files of a checkpoint, without the chunks of the buffer."""
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
    def from_files(
        cls, files: Mapping[str, bytes], chunks: Sequence[StoredChunk] = ()
    ) -> "ModelState":
        """Read the state from the files of a checkpoint.

        :param chunks: the chunks of the replay buffer, oldest first. They are read later.
        """
        values = json.loads(files["state.json"])
        memory = (
            ReplayMemory.from_values(values.pop("memory"), chunks) if "memory" in values else None
        )
        return cls(load_safetensors(files["state.safetensors"]), values, memory)


def capture(model: Any) -> ModelState:
    """Copy the state of a model: parameters, optimizers, statistics and counters."""
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


def capture_policy(model: Any) -> Arrays:
    """Copy the parameters of the policy."""
    return {f"{POLICY}{key}": _array(tensor) for key, tensor in model.policy.state_dict().items()}


def restore(model: Any, state: ModelState) -> None:
    """Write a captured state into a new model of the same spec."""
    names, _ = model._get_torch_save_params()
    for name in names:
        part = recursive_getattr(model, name)
        if isinstance(part, torch.optim.Optimizer):
            part.load_state_dict(_optimizer_state(name, state))
        else:
            part.load_state_dict(tensors_below(f"{name}/", state.arrays))
    for name, tensor in tensors_below("variable/", state.arrays).items():
        recursive_getattr(model, name).data.copy_(tensor)
    for key, value in state.values["counters"].items():
        setattr(model, key, value)

    synchronise_weights(model)
    restore_normalisation(model.get_vec_normalize_env(), state.arrays)
    if state.memory is not None:
        attach(model, state.memory)


def synchronise_weights(model: Any) -> None:
    """Update the second copy of the policy's parameters that ARS keeps, if there is one."""
    if hasattr(model, "weights"):
        model.weights = torch.nn.utils.parameters_to_vector(model.policy.parameters()).detach()


def final_parameters(state: ModelState) -> Arrays:
    """Return the policy's parameters and the normalisation statistics.

    The digest is computed from these arrays, and a warm start begins with them.
    """
    return {
        key: array for key, array in state.arrays.items() if key.startswith((POLICY, NORMALISATION))
    }


def first_not_finite(arrays: Arrays) -> str | None:
    """Return the name of an array that holds NaN or infinity; None if all values are finite."""
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


def tensors_below(
    prefix: str, arrays: Mapping[str, np.ndarray[Any, Any]]
) -> dict[str, torch.Tensor]:
    """Return copies of the arrays whose names begin with a prefix, by the rest of their names."""
    return {
        key.removeprefix(prefix): torch.from_numpy(array.copy())
        for key, array in arrays.items()
        if key.startswith(prefix)
    }


def capture_normalisation(statistics: VecNormalize | None) -> Arrays:
    """Copy the running statistics; empty if the environment does not normalise."""
    if statistics is None:
        return {}
    return arrays_of(moments_of(statistics), NORMALISATION)


def arrays_of(moments: Mapping[str, RunningMeanStd], prefix: str) -> Arrays:
    """Copy moments by name. The names of the arrays begin with a prefix."""
    arrays: Arrays = {}
    for name, one in moments.items():
        arrays[f"{prefix}{name}/mean"] = np.array(one.mean, np.float64)
        arrays[f"{prefix}{name}/var"] = np.array(one.var, np.float64)
        arrays[f"{prefix}{name}/count"] = np.array(one.count, np.float64)
    return arrays


def restore_normalisation(
    statistics: VecNormalize | None, arrays: Mapping[str, np.ndarray[Any, Any]]
) -> None:
    """Write captured statistics into an environment. No effect if it does not normalise."""
    if statistics is None:
        return
    for name, moments in moments_of(statistics).items():
        moments.mean = scalar_or_array(arrays[f"{NORMALISATION}{name}/mean"])
        moments.var = scalar_or_array(arrays[f"{NORMALISATION}{name}/var"])
        moments.count = float(arrays[f"{NORMALISATION}{name}/count"])


def scalar_or_array(array: np.ndarray[Any, Any]) -> Any:
    """Return statistics of returns as NumPy scalars, and all others as arrays.

    SB3's first update makes the statistics of returns scalars. They must stay scalars, because
    scalar arithmetic gives other bits.
    """
    return array.copy() if array.ndim else np.float64(array)


def moments_of(statistics: VecNormalize) -> dict[str, RunningMeanStd]:
    """Return the running statistics of observations and returns by name."""
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
