"""PPO's loss of one minibatch, with nothing in it that waits for the GPU or depends on what it finds there.

Line by line this is `PPO.train` of SB3: https://github.com/DLR-RM/stable-baselines3/blob/master/stable_baselines3/ppo/ppo.py
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch.distributions import Distribution
from torch.nn import functional

from rl_trainer.graphs.rows import Rows

#: What SB3 logs of a minibatch, in the order of :func:`evaluate`'s numbers.
LOGGED = (
    "policy_gradient_loss",
    "value_loss",
    "entropy_loss",
    "approx_kl",
    "clip_fraction",
    "loss",
)
APPROX_KL = LOGGED.index("approx_kl")


@dataclass(frozen=True)
class Weights:
    """What never changes during a training, and is recorded as it is."""

    entropy: float
    value: float
    normalize_advantage: bool
    clips_values: bool


class ClipBounds:
    """The clip ranges as tensors that stay in place: a schedule changes them without recording anew."""

    def __init__(self, device: torch.device) -> None:
        self.low, self.high, self.range, self.value_low, self.value_high = torch.zeros(
            5, device=device
        ).unbind()

    def set(self, clip_range: float, clip_range_vf: float | None) -> None:
        """Set them for the minibatches to come. :param clip_range_vf: None: values are not clipped."""
        by_value = clip_range_vf if clip_range_vf is not None else 0.0
        for tensor, number in (
            (self.low, 1 - clip_range),
            (self.high, 1 + clip_range),
            (self.range, clip_range),
            (self.value_low, -by_value),
            (self.value_high, by_value),
        ):
            tensor.fill_(number)


def evaluate(
    policy: ActorCriticPolicy, rows: Rows, bounds: ClipBounds, by: Weights
) -> tuple[torch.Tensor, torch.Tensor]:
    """Reckon the loss. :return: the loss, for its gradients, and the numbers of :data:`LOGGED`."""
    values, log_prob, entropy = policy.evaluate_actions(rows.observations, rows.actions)
    values = values.flatten()
    advantages = rows.advantages
    if by.normalize_advantage and len(advantages) > 1:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    ratio = torch.exp(log_prob - rows.old_log_prob)
    policy_loss = -torch.min(
        advantages * ratio, advantages * torch.clamp(ratio, bounds.low, bounds.high)
    ).mean()
    if by.clips_values:
        values = rows.old_values + torch.clamp(
            values - rows.old_values, bounds.value_low, bounds.value_high
        )
    value_loss = functional.mse_loss(rows.returns, values)
    entropy_loss = -torch.mean(-log_prob if entropy is None else entropy)
    loss = policy_loss + by.entropy * entropy_loss + by.value * value_loss
    with torch.no_grad():
        log_ratio = log_prob - rows.old_log_prob
        approx_kl = torch.mean((torch.exp(log_ratio) - 1) - log_ratio)
        clip_fraction = torch.mean((torch.abs(ratio - 1) > bounds.range).float())
        numbers = torch.stack(
            [policy_loss, value_loss, entropy_loss, approx_kl, clip_fraction, loss]
        )
    return loss, numbers


@contextmanager
def unchecked_distributions() -> Iterator[None]:
    """Let distributions not look at their parameters: torch would read them back from the GPU at each minibatch."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


def forget_gradients(distribution: Any) -> None:
    """Let go of what SB3's distribution of actions still holds of the last pass, and of how its noise was drawn (gSDE).

    Such tensors keep alive how a gradient flows into a parameter, and on which stream; a recording would have to wait for that.
    """
    for name, value in list(vars(distribution).items()):
        if isinstance(value, torch.Tensor):
            setattr(distribution, name, value.detach())
        elif isinstance(value, Distribution) or (
            isinstance(value, list) and any(isinstance(part, Distribution) for part in value)
        ):
            setattr(distribution, name, None)
