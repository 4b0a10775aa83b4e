"""The gradient steps of SAC.

Line by line this is `SAC.train` of SB3, with the derivative of each line:
https://github.com/DLR-RM/stable-baselines3/blob/master/stable_baselines3/sac/sac.py
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

#: The number that SB3 adds to tanh's derivative before it takes the logarithm.
EPSILON = np.float32(1e-6)


class Sampled(NamedTuple):
    """Squashed actions with their log-probabilities, and arrays for the backward pass.

    `spread` is deviation times noise, `slopes` is tanh's derivative, and `inside` is 1 where the
    logarithm of the deviation was not clipped.
    """

    actions: Floats
    log_prob: Floats
    spread: Floats
    slopes: Floats
    inside: Floats


class SquashedGaussian:
    """SAC's actor. The network's outputs are the means, then the logarithms of the deviations."""

    def __init__(self, network: Mlp) -> None:
        self.network = network

    def sample(self, observations: Floats, noise: Floats) -> Sampled:
        """Draw actions between -1 and 1.

        :param noise: standard normal numbers, one row per observation.
        """
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
        self,
        observations: Floats,
        sampled: Sampled,
        action_gradient: Floats,
        log_prob_gradient: float,
    ) -> None:
        """Write the gradients, after :meth:`sample` of the same observations.

        The noise is fixed. So the mean changes the action only, and the deviation changes the
        action and its log-density.

        :param action_gradient: the loss's gradient by the actions, without the part that comes
            from the log-probabilities.
        :param log_prob_gradient: the loss's gradient by each log-probability.
        """
        actions, slopes = sampled.actions, sampled.slopes
        mean_gradient = (
            action_gradient + np.float32(2 * log_prob_gradient) * actions / (slopes + EPSILON)
        ) * slopes
        log_std_gradient = (
            mean_gradient * sampled.spread - np.float32(log_prob_gradient)
        ) * sampled.inside
        self.network.backward(
            observations, np.concatenate((mean_gradient, log_std_gradient), axis=1)
        )


class Temperature:
    """The entropy coefficient, which is constant or learned.

    :param value: the constant coefficient; ignored if the coefficient is learned.
    :param optimizer: the optimizer of the coefficient's logarithm; None for a constant coefficient.
    """

    def __init__(
        self, value: float, target_entropy: float, optimizer: FlatOptimizer | None
    ) -> None:
        self.value, self.target_entropy, self.optimizer = value, target_entropy, optimizer

    def current(self) -> float:
        """Return the current coefficient."""
        return self.value if self.optimizer is None else math.exp(self.optimizer.weights[0])

    def learn(self, log_prob: Floats, learning_rate: float) -> float:
        """Take one step towards the target entropy.

        :return: the loss before the step; 0 for a constant coefficient.
        """
        if self.optimizer is None:
            return 0.0
        missing = mean(log_prob) + self.target_entropy
        loss = -float(self.optimizer.weights[0]) * missing
        self.optimizer.gradient[0] = -missing
        self.optimizer.step_unclipped(learning_rate)
        return loss


@dataclass(frozen=True)
class SacLosses:
    """The numbers of a step that SB3 logs, under SB3's names."""

    ent_coef: float
    ent_coef_loss: float
    critic_loss: float
    actor_loss: float


class SacUpdate:
    """Takes steps on a SAC policy whose parameters are views of flat arrays."""

    def __init__(
        self,
        actor: SquashedGaussian,
        optimizer: FlatOptimizer,
        critics: Critics,
        temperature: Temperature,
    ) -> None:
        self.actor, self.optimizer = actor, optimizer
        self.critics, self.temperature = critics, temperature

    @property
    def optimizers(self) -> list[FlatOptimizer]:
        """The optimizers whose steps are counted."""
        return [
            optimizer
            for optimizer in (self.optimizer, self.critics.optimizer, self.temperature.optimizer)
            if optimizer
        ]

    def step(
        self, batch: Transitions, noise: Floats, next_noise: Floats, learning_rate: float
    ) -> SacLosses:
        """Take one step of temperature, critics and actor, in SB3's order.

        The target networks do not change; the caller moves them.
        """
        next_sampled = self.actor.sample(batch.next_observations, next_noise)
        # Sampled last, because the backward pass needs the activations of this forward pass.
        sampled = self.actor.sample(batch.observations, noise)

        coefficient = self.temperature.current()
        ent_coef_loss = self.temperature.learn(sampled.log_prob, learning_rate)

        values = self.critics.target_values(batch.next_observations, next_sampled.actions)
        values -= np.float32(coefficient) * next_sampled.log_prob
        target_q_values = batch.rewards + (1 - batch.dones) * batch.discounts * values
        critic_loss = self.critics.learn(
            batch.observations, batch.actions, target_q_values, learning_rate
        )

        actor_loss = self.actor_gradients(batch.observations, sampled, coefficient)
        self.optimizer.step_unclipped(learning_rate)
        return SacLosses(coefficient, ent_coef_loss, critic_loss, actor_loss)

    def actor_gradients(self, observations: Floats, sampled: Sampled, coefficient: float) -> float:
        """Write the gradient of the loss (ent_coef * log_prob - min Q).mean().

        :return: the loss.
        """
        rows = len(observations)
        values, action_gradient = self.critics.smallest(observations, sampled.actions)
        self.actor.backward(
            observations, sampled, action_gradient * np.float32(-1 / rows), coefficient / rows
        )
        return coefficient * mean(sampled.log_prob) - mean(values)
