"""A recorded step is compared with the same step unrecorded, on this machine, before any training relies on it."""

import copy
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from rl_trainer.graphs.algorithms import GraphPPO
from rl_trainer.graphs.losses import LOGGED, unchecked_distributions
from rl_trainer.graphs.update import PpoUpdate, undone

#: Steps that are compared, each on other rows.
STEPS = 3
LEARNING_RATE = 1e-3
#: How far a parameter may lie from the unrecorded one's, in learning rates: Adam moves it by about one in each step.
TOLERANCE = 0.02
#: Observations that are drawn; a rollout repeats them.
DRAWN = 64


def why_not_equal(model: GraphPPO) -> str:
    """Let a model take recorded and unrecorded steps from the same start. What it is afterwards is nobody's to use.

    :param model: untrained, on the device to check.
    :return: why recorded steps cannot be relied on; empty if they can.
    """
    torch_state = torch.random.get_rng_state()
    try:
        _fill(model)
        recorded, plain = _parameters_and_numbers(model)
    except RuntimeError as error:  # of whatever cannot be recorded, or does not fit into the GPU's memory
        return f"they cannot be recorded: {' '.join(str(error).split())[:200] or type(error).__name__}"
    finally:
        torch.random.set_rng_state(torch_state)
    moved = max(float((ours - theirs).abs().max()) for ours, theirs in zip(recorded[0], plain[0], strict=True))
    if not moved <= TOLERANCE * LEARNING_RATE:
        return f"after {STEPS} recorded steps a parameter lies {moved / LEARNING_RATE:.2g} learning rates from where it belongs"
    for row, (ours, theirs) in enumerate(zip(recorded[1], plain[1], strict=True)):
        if not np.allclose(ours, theirs, rtol=1e-3, atol=1e-4):
            off = int(np.argmax(np.abs(ours - theirs)))
            return f"{LOGGED[off]} of recorded step {row + 1} is {ours[off]:.6g}, not {theirs[off]:.6g}"
    return ""


def _parameters_and_numbers(model: GraphPPO) -> list[tuple[list[torch.Tensor], np.ndarray[Any, Any]]]:
    """What recorded steps end at, and what plain ones do."""
    model.policy.set_training_mode(True)
    model.target_kl, model.n_epochs = None, STEPS  # nothing ends the comparison early, and there is room for its numbers
    model.policy.optimizer.param_groups[0]["lr"] = LEARNING_RATE
    update, parameters, results = model.prepared(), [*model.policy.parameters()], []
    update.rollout.load(model.rollout_buffer)
    for replayed in (True, False):
        with undone(parameters):
            with update.training(0.2, 0.2 if model.clip_range_vf is not None else None):
                _steps(update, replayed=replayed)
            results.append(([parameter.detach().clone() for parameter in parameters], update.logged()))
        model.policy.optimizer.state.clear()
    return results


def _steps(update: PpoUpdate, *, replayed: bool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        chosen = rng.integers(0, update.n_rows, update.batch_size)
        if not update.step(torch.from_numpy(chosen).to(update.device), replayed=replayed):
            break


def _fill(model: GraphPPO) -> None:
    """Fill a rollout buffer with made-up transitions, from generators of its own."""
    buffer, rng = model.rollout_buffer, np.random.default_rng(1)
    observations: Any = buffer.observations
    if isinstance(observations, dict):
        space: Any = buffer.observation_space
        seen: Any = {key: torch.from_numpy(_repeat(column, space[key])).to(model.device) for key, column in observations.items()}
    else:
        seen = torch.from_numpy(_repeat(observations, buffer.observation_space)).to(model.device)
    done = torch.from_numpy(_repeat(buffer.actions, buffer.action_space).astype(np.float32)).to(model.device)
    with torch.no_grad(), unchecked_distributions():
        _, log_prob, _ = model.policy.evaluate_actions(seen, done.flatten() if isinstance(model.action_space, spaces.Discrete) else done)
    for column in (buffer.values, buffer.advantages, buffer.returns):
        column[:] = rng.normal(size=column.shape)
    buffer.log_probs[:] = np.resize(log_prob.cpu().numpy(), buffer.log_probs.shape) + rng.normal(0, 0.1, buffer.log_probs.shape)


def _repeat(column: np.ndarray[Any, Any], space: spaces.Space[Any]) -> np.ndarray[Any, Any]:
    """Draw values of a space, none beyond ±10 where they are real, and fill a column with them over and over. :return: those drawn."""
    space = copy.deepcopy(space)  # so that the environments' own generators stay where they are
    space.seed(0)
    drawn = np.stack([np.asarray(space.sample()).reshape(column.shape[2:]) for _ in range(DRAWN)])
    drawn = (drawn.clip(-10, 10) if drawn.dtype.kind == "f" else drawn).astype(column.dtype)
    column[:] = drawn[np.arange(column.shape[0] * column.shape[1]) % DRAWN].reshape(column.shape)
    return drawn
