"""The gradient step of DQN.

Line by line this is `DQN.train` of SB3, with the derivative of each line:
https://github.com/DLR-RM/stable-baselines3/blob/master/stable_baselines3/dqn/dqn.py
"""

import numpy as np

from rl_trainer.numpy_path.distributions import mean
from rl_trainer.numpy_path.layers import Array, Mlp
from rl_trainer.numpy_path.optimizers import FlatOptimizer, Floats
from rl_trainer.numpy_path.replay import Transitions


class DqnUpdate:
    """Takes steps on a DQN policy whose parameters are views of the optimizer's array."""

    def __init__(self, network: Mlp, target: Mlp, optimizer: FlatOptimizer) -> None:
        self.network, self.target, self.optimizer = network, target, optimizer

    @property
    def optimizers(self) -> list[FlatOptimizer]:
        """The optimizers whose steps are counted."""
        return [self.optimizer]

    def act(self, observations: Floats) -> Array:
        """Return the actions with the largest values."""
        actions: Array = self.network.forward(observations).argmax(axis=1)
        return actions

    def step(self, batch: Transitions, learning_rate: float, max_grad_norm: float) -> float:
        """Take one step. :return: the loss before the step."""
        loss = self.gradients(batch)
        self.optimizer.step(learning_rate, max_grad_norm)
        return loss

    def gradients(self, batch: Transitions) -> float:
        """Write the gradient of Huber's loss, whose derivative is the clipped error.

        :return: the loss.
        """
        best = np.maximum.reduce(self.target.forward(batch.next_observations), axis=1)
        target_q_values = batch.rewards + (1 - batch.dones) * batch.discounts * best
        values, rows = self.network.forward(batch.observations), np.arange(len(target_q_values))
        chosen = batch.actions.reshape(-1)
        error = values[rows, chosen] - target_q_values
        clipped = np.minimum(np.maximum(error, np.float32(-1)), np.float32(1))
        delta = np.zeros_like(values)
        delta[rows, chosen] = clipped * np.float32(1 / len(rows))
        self.network.backward(batch.observations, delta)
        return mean(clipped * (error - 0.5 * clipped))
