"""One minibatch: losses, their gradients by hand, one step of the optimizer.

Line by line these are `PPO.train` and `A2C.train` of SB3, with the derivative of each line beside it:
https://github.com/DLR-RM/stable-baselines3/blob/master/stable_baselines3/ppo/ppo.py
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rl_trainer.numpy_path.distributions import ActionDistribution, Array, mean
from rl_trainer.numpy_path.layers import Mlp
from rl_trainer.numpy_path.optimizers import FlatOptimizer, Floats


class Minibatch(NamedTuple):
    """Rows of a rollout."""

    observations: Floats
    actions: Array
    old_values: Floats
    old_log_prob: Floats
    advantages: Floats
    returns: Floats


class Losses(NamedTuple):
    """What SB3 logs of a minibatch."""

    policy: float
    value: float
    entropy: float
    approx_kl: float
    clip_fraction: float
    gradient_norm: float


@dataclass(frozen=True)
class Coefficients:
    """What stays the same during one call of `train`."""

    learning_rate: float
    clip_range: float
    clip_range_vf: float | None
    entropy: float
    value: float
    max_grad_norm: float
    normalize_advantage: bool
    target_kl: float | None


class PolicyTerm(NamedTuple):
    """The policy's part of a loss, and its gradient with respect to the log-probabilities."""

    loss: float
    by_log_prob: Floats
    approx_kl: float = 0.0
    clip_fraction: float = 0.0


class ActorCriticUpdate:
    """Takes steps on a policy whose parameters are views of the optimizer's array."""

    def __init__(self, optimizer: FlatOptimizer, policy_net: Mlp, value_net: Mlp, distribution: ActionDistribution) -> None:
        self.optimizer, self.policy_net, self.value_net, self.distribution = optimizer, policy_net, value_net, distribution

    def step(self, batch: Minibatch, by: Coefficients) -> tuple[Losses, bool]:
        """Take one step. :return: the losses, and whether to go on (`target_kl` may say no, before the step)."""
        losses = self.gradients(batch, by)
        if by.target_kl is not None and losses.approx_kl > 1.5 * by.target_kl:
            return losses, False
        norm = self.optimizer.step(by.learning_rate, by.max_grad_norm)
        return losses._replace(gradient_norm=norm), True

    def gradients(self, batch: Minibatch, by: Coefficients) -> Losses:
        """Write the gradient of SB3's loss into `optimizer.gradient`."""
        evaluated = self.distribution.evaluate(self.policy_net.forward(batch.observations), batch.actions)
        advantages = _normalized(batch.advantages) if by.normalize_advantage else batch.advantages
        term = self.policy_term(evaluated.log_prob, advantages, batch, by)
        delta = self.distribution.backward(evaluated, batch.actions, term.by_log_prob, -by.entropy)
        self.policy_net.backward(batch.observations, delta)
        return Losses(policy=term.loss, value=self._value_gradients(batch, by), entropy=-evaluated.entropy,
                      approx_kl=term.approx_kl, clip_fraction=term.clip_fraction, gradient_norm=math.nan)

    def policy_term(self, log_prob: Floats, advantages: Floats, batch: Minibatch, by: Coefficients) -> PolicyTerm:
        """The policy's part of the loss."""
        raise NotImplementedError

    def _value_gradients(self, batch: Minibatch, by: Coefficients) -> float:
        values = self.value_net.forward(batch.observations)[:, 0]
        slope: Array | None = None
        if by.clip_range_vf is not None:
            moved = values - batch.old_values
            slope = np.abs(moved) <= by.clip_range_vf
            values = batch.old_values + np.clip(moved, -by.clip_range_vf, by.clip_range_vf)
        error = values - batch.returns
        delta = error * np.float32(2 * by.value / len(error))
        if slope is not None:
            delta *= slope
        self.value_net.backward(batch.observations, delta[:, None])
        return float(error.dot(error)) / len(error)


class PpoUpdate(ActorCriticUpdate):
    """PPO's clipped surrogate."""

    def policy_term(self, log_prob: Floats, advantages: Floats, batch: Minibatch, by: Coefficients) -> PolicyTerm:
        """Where the clipped surrogate is the smaller one, the ratio is outside its range and the slope is zero."""
        log_ratio = log_prob - batch.old_log_prob
        ratio = np.exp(log_ratio)
        plain = advantages * ratio
        clipped = advantages * np.minimum(np.maximum(ratio, 1 - by.clip_range), 1 + by.clip_range)
        by_log_prob = np.where(plain <= clipped, plain, 0) * np.float32(-1 / len(plain))
        moved = ratio - 1
        clip_fraction = np.count_nonzero(np.abs(moved) > by.clip_range) / len(moved)
        return PolicyTerm(-mean(np.minimum(plain, clipped)), by_log_prob, mean(moved - log_ratio), clip_fraction)


class A2cUpdate(ActorCriticUpdate):
    """A2C's policy gradient."""

    def policy_term(self, log_prob: Floats, advantages: Floats, batch: Minibatch, by: Coefficients) -> PolicyTerm:
        """-(advantages * log_prob).mean()."""
        del batch, by
        by_log_prob: Floats = advantages * np.float32(-1 / len(advantages))
        return PolicyTerm(float(by_log_prob.dot(log_prob)), by_log_prob)


def _normalized(advantages: Floats) -> Floats:
    """Mean 0 and deviation 1, with torch's unbiased deviation; a single row is left alone, as SB3 does."""
    if len(advantages) <= 1:
        return advantages
    centered: Floats = advantages - mean(advantages)
    centered /= math.sqrt(float(centered.dot(centered)) / (len(centered) - 1)) + 1e-8
    return centered
