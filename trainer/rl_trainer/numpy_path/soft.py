"""SAC's gradient step. Line by line this is `SAC.train` of SB3, with the derivative of each line
beside it: https://github.com/DLR-RM/stable-baselines3/blob/master/stable_baselines3/sac/sac.py
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN

from rl_trainer.numpy_path.critics import Critics
from rl_trainer.numpy_path.distributions import HALF_LOG_2_PI, mean
from rl_trainer.numpy_path.layers import Mlp
from rl_trainer.numpy_path.optimizers import FlatOptimizer, Floats
from rl_trainer.numpy_path.replay import Transitions

#: What SB3 adds before the logarithm of the squashing's slope.
EPSILON = np.float32(1e-6)


class Sampled(NamedTuple):
    """Squashed actions with their log-probabilities, and what the backward pass needs again."""

    actions: Floats
    log_prob: Floats
    spread: Floats
    slopes: Floats
    inside: Floats


class SquashedGaussian:
    """SAC's actor: a network whose outputs are the means and, beside them, the logarithms of the
    deviations.
    """

    def __init__(self, network: Mlp) -> None:
        self.network = network

    def sample(self, observations: Floats, noise: Floats) -> Sampled:
        """Draw actions between -1 and 1. :param noise: standard normal, one row an observation."""
        means, log_std = np.hsplit(self.network.forward(observations), 2)
        clipped = np.minimum(np.maximum(log_std, np.float32(LOG_STD_MIN)), np.float32(LOG_STD_MAX))
        spread = np.exp(clipped) * noise
        actions = np.tanh(means + spread)
        slopes = 1 - actions * actions
        log_prob = -np.add.reduce(
            0.5 * noise * noise + clipped + np.float32(HALF_LOG_2_PI) + np.log(slopes + EPSILON),
            axis=1,
        )
        return Sampled(actions, log_prob, spread, slopes, (clipped == log_std).astype(np.float32))

    def backward(
        self, observations: Floats, sampled: Sampled, by_action: Floats, by_log_prob: float
    ) -> None:
        """Write the gradients, after :meth:`sample` of the same observations.

        The noise is fixed, so a mean moves the action alone, and a deviation both the action and
        its log-density.

        :param by_action: the loss's gradient with respect to the actions, but for the
            log-probabilities' part.
        :param by_log_prob: with respect to each log-probability.
        """
        actions, slopes = sampled.actions, sampled.slopes
        by_mean = (by_action + np.float32(2 * by_log_prob) * actions / (slopes + EPSILON)) * slopes
        by_log_std = (by_mean * sampled.spread - np.float32(by_log_prob)) * sampled.inside
        self.network.backward(observations, np.concatenate((by_mean, by_log_std), axis=1))


class Temperature:
    """The entropy coefficient: learned on a logarithm, or given.

    :param optimizer: of the logarithm; None: it stays as it is.
    """

    def __init__(
        self, value: float, target_entropy: float, optimizer: FlatOptimizer | None
    ) -> None:
        self.value, self.target_entropy, self.optimizer = value, target_entropy, optimizer

    def current(self) -> float:
        """The coefficient of this step."""
        return self.value if self.optimizer is None else math.exp(self.optimizer.weights[0])

    def learn(self, log_prob: Floats, learning_rate: float) -> float:
        """Take one step towards the target entropy.
        :return: the loss before; 0 if nothing is learned.
        """
        if self.optimizer is None:
            return 0.0
        missing = mean(log_prob) + self.target_entropy
        loss = -float(self.optimizer.weights[0]) * missing
        self.optimizer.gradient[0] = -missing
        self.optimizer.step_unclipped(learning_rate)
        return loss


@dataclass(frozen=True)
class SoftLosses:
    """What SB3 logs of a step."""

    ent_coef: float
    ent_coef_loss: float
    critic_loss: float
    actor_loss: float


class SoftUpdate:
    """Takes steps on a SAC policy whose parameters are views of flat arrays."""

    def __init__(
        self,
        actor: SquashedGaussian,
        optimizer: FlatOptimizer,
        critics: Critics,
        temperature: Temperature,
    ) -> None:
        self.actor, self.optimizer, self.critics, self.temperature = (
            actor,
            optimizer,
            critics,
            temperature,
        )

    @property
    def optimizers(self) -> list[FlatOptimizer]:
        """All that count steps."""
        return [
            optimizer
            for optimizer in (self.optimizer, self.critics.optimizer, self.temperature.optimizer)
            if optimizer
        ]

    def step(
        self, batch: Transitions, noise: Floats, next_noise: Floats, learning_rate: float
    ) -> SoftLosses:
        """Take one step of temperature, critics and actor, in SB3's order; the targets follow when
        they are told to.
        """
        following = self.actor.sample(batch.next_observations, next_noise)
        sampled = self.actor.sample(
            batch.observations, noise
        )  # last, because the backward pass needs its layers
        coefficient = self.temperature.current()
        ent_coef_loss = self.temperature.learn(sampled.log_prob, learning_rate)
        values = self.critics.target_values(batch.next_observations, following.actions)
        values -= np.float32(coefficient) * following.log_prob
        wanted = batch.rewards + (1 - batch.dones) * batch.discounts * values
        critic_loss = self.critics.learn(batch.observations, batch.actions, wanted, learning_rate)
        actor_loss = self.actor_gradients(batch.observations, sampled, coefficient)
        self.optimizer.step_unclipped(learning_rate)
        return SoftLosses(coefficient, ent_coef_loss, critic_loss, actor_loss)

    def actor_gradients(self, observations: Floats, sampled: Sampled, coefficient: float) -> float:
        """Write the gradient of (ent_coef * log_prob - min Q).mean(), and give its value."""
        rows = len(observations)
        values, by_action = self.critics.smallest(observations, sampled.actions)
        self.actor.backward(
            observations, sampled, by_action * np.float32(-1 / rows), coefficient / rows
        )
        return coefficient * mean(sampled.log_prob) - mean(values)
