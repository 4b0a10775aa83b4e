"""A warm start: beginning a training with a champion's parameters, and if wanted with the state of
its optimizer.

What else of the spec has changed does not matter as long as the new model acts as the champion
does: that is checked, on observations, before anything is trained. So a new learning rate, batch
size, number of environments, reward or time limit is fine; another network, activation,
normalisation or action range is refused.
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

#: Statistics that scale rewards in training and touch no action: they may begin anew.
RETURNS = f"{NORMALISATION}returns/"
WHAT_TO_DO = "set init_from: scratch, or undo the change of spaces, networks or normalize"


@dataclass(frozen=True)
class WarmStart:
    """What a training begins with.

    :param arrays: a version's safetensors: parameters, statistics, and the optimizer's state where
        it was kept.
    :param policy: the same as ONNX, to compare with; empty: nothing is compared.
    :param optimizer: whether the optimizer goes on from where the champion's was.
    """

    arrays: Arrays
    policy: bytes = b""
    optimizer: bool = False


def read_warm_start(spec: Spec, store: ObjectStore | None) -> WarmStart | None:
    """Read what a spec begins with; None if it says scratch, or there was no champion when it was
    frozen.
    """
    experiment, champion = spec.experiment, spec.champion
    if experiment.init_from != "champion" or champion is None:
        return None
    if store is None:
        raise BadInputError(
            "--store: is needed, because the training began with a champion's parameters"
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
    """Put another policy's parameters and statistics into a new model.

    :raises BadInputError: if they are not of this model's form, naming the first difference.
    """
    own, theirs = final_parameters(capture(model)), start.arrays
    for name in sorted(
        own.keys() | {name for name in theirs if name.startswith((POLICY, NORMALISATION))}
    ):
        if not name.startswith(RETURNS) and _form(own.get(name)) != _form(theirs.get(name)):
            raise BadInputError(
                f"init_from: the champion's parameters do not fit: {name} is "
                f"{_form(theirs.get(name))} there, "
                f"{_form(own.get(name))} here; {WHAT_TO_DO}"
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

    :raises BadInputError: if the same parameters act otherwise here.
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
            "init_from: with the champion's parameters the policy acts otherwise than the "
            f"champion ({error}); "
            f"{WHAT_TO_DO}"
        ) from error
    except Exception as error:  # onnxruntime's own types: another input, another shape
        reason = " ".join(str(error).split())[:200]
        raise BadInputError(
            f"init_from: the champion does not take this environment's observations ({reason}); "
            f"{WHAT_TO_DO}"
        ) from error


def learning_state(state: ModelState) -> Arrays:
    """What of a model's state is no policy and is worth keeping for a warm start: optimizers, and
    SAC's entropy coefficient.
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
    """The moments of each parameter.
    :raises BadInputError: if they are missing, or another optimizer's, or of another shape.
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
            raise BadInputError(
                f"init_optimizer: the champion's {name} does not fit "
                f"({', '.join(sorted(found)) or 'it was not kept'} for "
                f"parameter {place}, not {', '.join(sorted(wanted))}); set init_optimizer: fresh"
            )
    return slots


def _slot_names(optimizer: torch.optim.Optimizer) -> set[str]:
    """What an optimizer of this kind keeps of a parameter: found by letting one of its kind take a
    step.
    """
    tried = torch.nn.Parameter(torch.zeros(1))
    tried.grad = torch.zeros(1)
    one: Any = type(optimizer)([tried], **optimizer.defaults)
    one.step()
    return set(one.state[tried])


def _form(array: np.ndarray[Any, Any] | None) -> str:
    return "missing" if array is None else f"of shape {list(array.shape)}"
