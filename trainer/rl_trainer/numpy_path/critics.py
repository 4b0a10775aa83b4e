"""The critics of SAC, TD3 and DDPG: action-value networks with their targets and gradients."""

from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.policies import ContinuousCritic

from rl_trainer.numpy_path.layers import Activation, Mlp, linear_layers
from rl_trainer.numpy_path.optimizers import FlatOptimizer, FlatParameters, Floats


class ValuesAndGradients(NamedTuple):
    """Action values, and their gradients by the actions."""

    values: Floats
    action_gradient: Floats


class Critics:
    """The critic networks, whose parameters are views of the optimizer's array, and their targets.

    :param loss_scale: factor of the squared errors. It is 0.5 for SAC and 1 for TD3, as in SB3.
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
        """Return the smallest value of the target networks for each row."""
        inputs = _inputs(observations, actions)
        values: Floats = np.minimum.reduce(
            [network.forward(inputs)[:, 0] for network in self.targets]
        )
        return values

    def gradients(self, observations: Floats, actions: Floats, target_q_values: Floats) -> float:
        """Write the gradient of the squared errors.

        :return: the loss: the mean squared errors, scaled and summed over the networks.
        """
        inputs, loss = _inputs(observations, actions), 0.0
        for network in self.networks:
            error = network.forward(inputs)[:, 0] - target_q_values
            network.backward(
                inputs, (error * np.float32(2 * self.loss_scale / len(error)))[:, None]
            )
            loss += self.loss_scale * float(error.dot(error)) / len(error)
        return loss

    def learn(
        self, observations: Floats, actions: Floats, target_q_values: Floats, learning_rate: float
    ) -> float:
        """Take one step towards the target values. :return: the loss before the step."""
        loss = self.gradients(observations, actions, target_q_values)
        self.optimizer.step_unclipped(learning_rate)
        return loss

    def smallest(self, observations: Floats, actions: Floats) -> ValuesAndGradients:
        """Return the smallest value of each row, and its gradient.

        The backward pass of a row only needs the network that gave the smallest value.
        """
        inputs, columns = _inputs(observations, actions), slice(observations.shape[1], None)
        values = np.stack([network.forward(inputs)[:, 0] for network in self.networks])
        smallest = values.argmin(axis=0)

        action_gradient = np.empty_like(actions)
        for index, network in enumerate(self.networks):
            rows = np.flatnonzero(smallest == index)
            action_gradient[rows] = network.input_gradient(
                inputs, np.ones((len(rows), 1), np.float32), rows, columns
            )
        return ValuesAndGradients(values[smallest, np.arange(len(inputs))], action_gradient)

    def first(self, observations: Floats, actions: Floats) -> ValuesAndGradients:
        """Return the first network's values, and their gradients."""
        inputs, network = _inputs(observations, actions), self.networks[0]
        values = network.forward(inputs)[:, 0]
        ones = np.ones((len(inputs), 1), np.float32)
        return ValuesAndGradients(
            values,
            network.input_gradient(inputs, ones, slice(None), slice(observations.shape[1], None)),
        )

    def follow(self, tau: float) -> None:
        """Move the target networks towards the networks by the part `tau`."""
        follow(self.target_parameters.weights, self.optimizer.weights, tau, self._scratch)


def follow(target: Floats, weights: Floats, tau: float, scratch: Floats) -> None:
    """Move the targets towards the weights, as SB3's `polyak_update` does.

    :param scratch: an array of the same size, which is overwritten.
    """
    target *= 1 - tau
    np.multiply(weights, tau, out=scratch)
    target += scratch


def _modules(critic: ContinuousCritic) -> list[Any]:
    return list(critic.q_networks)


def _inputs(observations: Floats, actions: Floats) -> Floats:
    return np.concatenate((observations, actions), axis=1)
