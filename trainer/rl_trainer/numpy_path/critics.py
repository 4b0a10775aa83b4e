"""The critics of SAC, TD3 and DDPG: several action-value networks, their targets, and the gradients
by hand.
"""

from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.policies import ContinuousCritic

from rl_trainer.numpy_path.layers import Activation, Mlp, linear_layers
from rl_trainer.numpy_path.optimizers import FlatOptimizer, FlatParameters, Floats


class Slopes(NamedTuple):
    """Action values, and their gradient with respect to the actions."""

    values: Floats
    by_action: Floats


class Critics:
    """Networks whose parameters are views of the optimizer's array, and targets that follow them.

    :param loss_scale: SAC halves the squared errors, TD3 does not.
    """

    def __init__(
        self,
        critic: ContinuousCritic,
        target: ContinuousCritic,
        optimizer: FlatOptimizer,
        activation: Activation,
        loss_scale: float,
    ) -> None:
        self.optimizer, self.target_parameters = optimizer, FlatParameters(target.parameters())
        self.networks = [
            Mlp(linear_layers(network, optimizer), activation) for network in _modules(critic)
        ]
        self.targets = [
            Mlp(linear_layers(network, self.target_parameters), activation)
            for network in _modules(target)
        ]
        self.loss_scale = loss_scale
        self._scratch = np.empty_like(optimizer.weights)

    def target_values(self, observations: Floats, actions: Floats) -> Floats:
        """The smallest of the targets' values."""
        inputs = _inputs(observations, actions)
        values: Floats = np.minimum.reduce(
            [network.forward(inputs)[:, 0] for network in self.targets]
        )
        return values

    def gradients(self, observations: Floats, actions: Floats, wanted: Floats) -> float:
        """Write the gradient of the squared errors, and give their sum over the networks."""
        inputs, loss = _inputs(observations, actions), 0.0
        for network in self.networks:
            error = network.forward(inputs)[:, 0] - wanted
            network.backward(
                inputs, (error * np.float32(2 * self.loss_scale / len(error)))[:, None]
            )
            loss += self.loss_scale * float(error.dot(error)) / len(error)
        return loss

    def learn(
        self, observations: Floats, actions: Floats, wanted: Floats, learning_rate: float
    ) -> float:
        """Take one step towards the wanted values. :return: the loss before."""
        loss = self.gradients(observations, actions, wanted)
        self.optimizer.step_unclipped(learning_rate)
        return loss

    def smallest(self, observations: Floats, actions: Floats) -> Slopes:
        """The smallest value of each row, with its slopes: only the network that gives it needs to
        be gone through backwards.
        """
        inputs, columns = _inputs(observations, actions), slice(observations.shape[1], None)
        values = np.stack([network.forward(inputs)[:, 0] for network in self.networks])
        smallest = values.argmin(axis=0)
        by_action = np.empty_like(actions)
        for index, network in enumerate(self.networks):
            rows = np.flatnonzero(smallest == index)
            by_action[rows] = network.slopes(
                inputs, np.ones((len(rows), 1), np.float32), rows, columns
            )
        return Slopes(values[smallest, np.arange(len(inputs))], by_action)

    def first(self, observations: Floats, actions: Floats) -> Slopes:
        """The first network's values and slopes."""
        inputs, network = _inputs(observations, actions), self.networks[0]
        values = network.forward(inputs)[:, 0]
        ones = np.ones((len(inputs), 1), np.float32)
        return Slopes(
            values, network.slopes(inputs, ones, slice(None), slice(observations.shape[1], None))
        )

    def follow(self, tau: float) -> None:
        """Move the targets a little towards the networks."""
        follow(self.target_parameters.weights, self.optimizer.weights, tau, self._scratch)


def follow(target: Floats, weights: Floats, tau: float, scratch: Floats) -> None:
    """Do SB3's `polyak_update`. :param scratch: as large as the others, overwritten."""
    target *= 1 - tau
    np.multiply(weights, tau, out=scratch)
    target += scratch


def _modules(critic: ContinuousCritic) -> list[Any]:
    return list(critic.q_networks)


def _inputs(observations: Floats, actions: Floats) -> Floats:
    return np.concatenate((observations, actions), axis=1)
