"""A recorded step is compared with the same step unrecorded, on this machine, before any training relies on it."""

import copy
from typing import Any

import numpy as np
import torch

from rl_trainer.graphs.adam import undone
from rl_trainer.graphs.algorithms import GraphPPO
from rl_trainer.graphs.isolation import one_line
from rl_trainer.graphs.losses import LOGGED
from rl_trainer.graphs.made_up import fill_rollout, made_up_batch
from rl_trainer.graphs.replayed import GraphOffPolicy

#: By what a minibatch's length is divided at each step, all on other rows: a shorter one, which is never replayed, comes between two that
#: are. These steps are taken twice, as in two rollouts, the second time with the optimizer's state as a checkpoint gives it.
PARTS, TIMES = (1, 2, 1), 2
#: Steps that are compared.
STEPS = len(PARTS) * TIMES
LEARNING_RATE = 1e-3
#: How far a parameter may lie from the unrecorded one's, in learning rates: Adam moves it by about one in each step.
TOLERANCE = 0.04


def why_not_equal(model: GraphPPO | GraphOffPolicy) -> str:
    """Let a model take recorded and unrecorded steps from the same start. What it is afterwards is nobody's to use.

    :param model: untrained, on the device to check.
    :return: why recorded steps cannot be relied on; empty if they can.
    """
    try:
        with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
            recorded, plain = _ends(model)
    except (
        Exception
    ) as error:  # of whatever cannot be recorded, or does not fit into the GPU's memory
        return f"they cannot be recorded: {one_line(error)}"
    moved = max(
        float((ours - theirs).abs().max())
        for ours, theirs in zip(recorded[0], plain[0], strict=True)
    )
    if not moved <= TOLERANCE * LEARNING_RATE:
        return f"after {STEPS} recorded steps a parameter lies {moved / LEARNING_RATE:.2g} learning rates from where it belongs"
    names = LOGGED if isinstance(model, GraphPPO) else model.logged_names
    for row, (ours, theirs) in enumerate(zip(recorded[1], plain[1], strict=True)):
        if not np.allclose(ours, theirs, rtol=1e-3, atol=1e-4):
            off = int(np.argmax(np.abs(ours - theirs)))
            return (
                f"{names[off]} of recorded step {row + 1} is {ours[off]:.6g}, not {theirs[off]:.6g}"
            )
    return ""


def _ends(model: Any) -> list[tuple[list[torch.Tensor], np.ndarray[Any, Any]]]:
    """What recorded steps end at, and what plain ones do: the parameters, and each step's numbers."""
    rollouts = isinstance(model, GraphPPO)
    model.policy.set_training_mode(True)
    optimizers = [model.policy.optimizer] if rollouts else model.optimizers()
    parameters = [*model.policy.parameters()] if rollouts else model.trained()
    take, results = _rollout_steps if rollouts else _replay_steps, []
    for replayed in (True, False):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = LEARNING_RATE
        torch.manual_seed(0)
        with undone(parameters):
            numbers: list[np.ndarray[Any, Any]] = []
            for turn in range(TIMES):
                numbers += take(model, turn, replayed=replayed)
                for optimizer in optimizers:
                    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            results.append(
                ([parameter.detach().clone() for parameter in parameters], np.array(numbers))
            )
        for optimizer in optimizers:
            optimizer.state.clear()
    return results


def _rollout_steps(model: GraphPPO, turn: int, *, replayed: bool) -> list[np.ndarray[Any, Any]]:
    if model._update is None:
        model.target_kl, model.n_epochs = (
            None,
            len(PARTS),
        )  # nothing ends the comparison early, and there is room for its numbers
    fill_rollout(model, turn)
    update, rng = model.prepared(), np.random.default_rng(turn)
    update.rollout.load(model.rollout_buffer)
    with update.training(0.2, 0.2 if model.clip_range_vf is not None else None):
        for part in PARTS:
            chosen = rng.integers(0, update.n_rows, max(1, update.batch_size // part))
            update.step(torch.from_numpy(chosen).to(update.device), replayed=replayed)
    return [*update.logged()]


def _replay_steps(
    model: GraphOffPolicy, turn: int, *, replayed: bool
) -> list[np.ndarray[Any, Any]]:
    update = model.prepared()
    with update.training():
        numbers = [
            update.step(
                made_up_batch(model, seed, max(1, model.batch_size // part)),
                follow=model.follows(0),
                replayed=replayed,
            )
            for seed, part in enumerate(PARTS, len(PARTS) * turn)
        ]
    update.end()
    return [*torch.stack(numbers).cpu().numpy()]
