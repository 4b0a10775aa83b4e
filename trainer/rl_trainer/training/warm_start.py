"""Warm start: begin a training with a champion's parameters, and optionally with its optimizer.

Other changes of the spec are allowed if the new model still acts as the champion does. This is
checked on observations before the training. So a new learning rate, batch size, number of
environments, reward or time limit is fine. Another network, activation, normalisation or action
range is refused.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load as load_safetensors
from stable_baselines3.common.save_util import recursive_getattr

from rl_lifecycle.errors import LifecycleError
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.storage.object_store import ObjectStore, get
from rl_trainer.checkpointing.digests import NORMALISATION, POLICY
from rl_trainer.checkpointing.model_state import (
    Arrays,
    ModelState,
    capture,
    final_parameters,
    restore_normalisation,
    synchronise_weights,
    tensors_below,
)
from rl_trainer.errors import BadInputError
from rl_trainer.onnx_export.equality import UnequalPolicyError, compare
from rl_trainer.onnx_export.export import raw_space
from rl_trainer.onnx_export.reference import Reference

#: Statistics that scale rewards in training. They affect no action, so they may start with new
#: values.
RETURNS = f"{NORMALISATION}returns/"
WHAT_TO_DO = "set init_from: scratch, or undo the change of spaces, networks or normalize"


@dataclass(frozen=True)
class WarmStart:
    """The state that a training begins with.

    :param arrays: a version's safetensors: parameters, statistics, and the optimizer's state if it
        was kept.
    :param policy: the same policy as ONNX, for the comparison. If it is empty, nothing is compared.
    :param optimizer: whether the training continues with the champion's optimizer.
    """

    arrays: Arrays
    policy: bytes = b""
    optimizer: bool = False


def read_warm_start(spec: Spec, store: ObjectStore | None) -> WarmStart | None:
    """Read the warm start of a spec.

    :return: None if the spec says scratch, or no champion existed when it was frozen.
    :raises BadInputError: if the champion's parameters cannot be read.
    """
    experiment, champion = spec.experiment, spec.champion
    if experiment.init_from != "champion" or champion is None:
        return None
    if store is None:
        raise BadInputError(
            "--store: is missing; give the store that holds the champion's parameters"
        )
    try:
        arrays = load_safetensors(
            get(store, champion.parameters.key, champion.parameters.sha256).data
        )
        policy = get(store, champion.policy.key, champion.policy.sha256).data
    except LifecycleError as error:
        raise BadInputError(
            f"init_from: the champion's parameters cannot be read: {error}"
        ) from error
    return WarmStart(arrays, policy, experiment.init_optimizer == "champion")


def begin_with(model: Any, start: WarmStart) -> None:
    """Write another policy's parameters and statistics into a new model.

    :raises BadInputError: if names or shapes differ, naming the first difference.
    """
    own, theirs = final_parameters(capture(model)), start.arrays
    for name in sorted(
        own.keys() | {name for name in theirs if name.startswith((POLICY, NORMALISATION))}
    ):
        if not name.startswith(RETURNS) and _form(own.get(name)) != _form(theirs.get(name)):
            raise BadInputError(
                f"init_from: the champion's parameters do not fit: {name} is "
                f"{_form(theirs.get(name))} in the champion and {_form(own.get(name))} in the new "
                f"model; {WHAT_TO_DO}"
            )
    model.policy.load_state_dict(tensors_below(POLICY, theirs))
    synchronise_weights(model)
    restore_normalisation(
        model.get_vec_normalize_env(), own | {name: theirs[name] for name in theirs if name in own}
    )
    if start.optimizer:
        _go_on_optimizing(model, theirs)


def check_acts_alike(model: Any, start: WarmStart) -> None:
    """Compare a model that begins with a champion's parameters with the champion itself.

    :raises BadInputError: if they act differently on the same observations.
    """
    if not start.policy:
        return
    space, stack = raw_space(model.env)
    statistics = model.get_vec_normalize_env()
    recurrent = stack is not None or getattr(model.policy, "lstm_actor", None) is not None
    try:
        compare(
            start.policy,
            lambda rows: Reference(model, statistics, stack, rows),
            space,
            model.action_space,
            recurrent=recurrent,
        )
    except UnequalPolicyError as error:
        raise BadInputError(
            "init_from: with the champion's parameters the policy acts differently from the "
            f"champion ({error}); {WHAT_TO_DO}"
        ) from error
    except Exception as error:  # onnxruntime raises its own types for other inputs or shapes
        reason = " ".join(str(error).split())[:200]
        raise BadInputError(
            f"init_from: the champion does not take the observations of this environment "
            f"({reason}); {WHAT_TO_DO}"
        ) from error


def learning_state(state: ModelState) -> Arrays:
    """Return the state of optimizers and SAC's entropy coefficient, for a later warm start.

    These arrays are not part of the policy.
    """
    numbers = {
        f"{name}/{slot}": np.asarray(value)
        for name, part in state.values.items()
        if name != "counters"
        for slot, value in part["numbers"].items()
    }
    return {
        name: array
        for name, array in state.arrays.items()
        if not name.startswith((POLICY, NORMALISATION))
    } | numbers


def _go_on_optimizing(model: Any, arrays: Arrays) -> None:
    names, variables = model._get_torch_save_params()
    for name in names:
        part = recursive_getattr(model, name)
        if isinstance(part, torch.optim.Optimizer):
            part.load_state_dict(
                {
                    "state": _slots(name, part, arrays),
                    "param_groups": part.state_dict()["param_groups"],
                }
            )
    for name in variables:
        variable, stored = recursive_getattr(model, name), arrays.get(f"variable/{name}")
        if variable is not None and stored is not None:
            variable.data.copy_(torch.from_numpy(stored.copy()))


def _slots(
    name: str, optimizer: torch.optim.Optimizer, arrays: Arrays
) -> dict[int, dict[str, Any]]:
    """Return the moments of each parameter.

    :raises BadInputError: if they are missing, or belong to another optimizer or shape.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    slots: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors_below(f"{name}/", arrays).items():
        index, _, slot = key.partition("/")
        slots.setdefault(int(index), {})[slot] = tensor
    wanted = _slot_names(optimizer)
    for place, parameter in enumerate(parameters):
        found = slots.get(place, {})
        if found.keys() != wanted or any(
            value.ndim and value.shape != parameter.shape for value in found.values()
        ):
            stored = ", ".join(sorted(found)) or "nothing"
            raise BadInputError(
                f"init_optimizer: the champion's {name} does not fit: for parameter {place} it "
                f"holds {stored}, not {', '.join(sorted(wanted))} of this shape; set "
                "init_optimizer: fresh"
            )
    return slots


def _slot_names(optimizer: torch.optim.Optimizer) -> set[str]:
    """Return the names of an optimizer's values for a parameter.

    They are found by one step of an optimizer of the same class.
    """
    tried = torch.nn.Parameter(torch.zeros(1))
    tried.grad = torch.zeros(1)
    one: Any = type(optimizer)([tried], **optimizer.defaults)
    one.step()
    return set(one.state[tried])


def _form(array: np.ndarray[Any, Any] | None) -> str:
    return "missing" if array is None else f"of shape {list(array.shape)}"
