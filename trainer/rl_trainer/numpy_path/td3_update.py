"""The gradient steps of TD3 and DDPG.

Line by line this is `TD3.train` of SB3, with the derivative of each line:
https://github.com/DLR-RM/stable-baselines3/blob/master/stable_baselines3/td3/td3.py
"""

import numpy as np

from rl_trainer.numpy_path.critics import Critics, follow
from rl_trainer.numpy_path.distributions import mean
from rl_trainer.numpy_path.layers import Mlp
from rl_trainer.numpy_path.optimizers import FlatOptimizer, FlatParameters, Floats
from rl_trainer.numpy_path.replay import Transitions


class SquashedActor:
    """The actor, a network followed by tanh, and its target network."""

    def __init__(
        self, network: Mlp, target: Mlp, optimizer: FlatOptimizer, target_parameters: FlatParameters
    ) -> None:
        self.network, self.target = network, target
        self.optimizer, self.target_parameters = optimizer, target_parameters
        self._scratch = np.empty_like(optimizer.weights)

    def act(self, observations: Floats) -> Floats:
        """Return actions between -1 and 1."""
        return np.tanh(self.network.forward(observations))

    def target_actions(self, observations: Floats, noise: Floats) -> Floats:
        """Return the target network's actions with noise, between -1 and 1."""
        actions = np.tanh(self.target.forward(observations))
        actions += noise
        return np.clip(actions, -1, 1, out=actions)

    def follow(self, tau: float) -> None:
        """Move the target network towards the network by the part `tau`."""
        follow(self.target_parameters.weights, self.optimizer.weights, tau, self._scratch)


class Td3Update:
    """Takes steps on a TD3 policy whose parameters are views of flat arrays."""

    def __init__(self, actor: SquashedActor, critics: Critics) -> None:
        self.actor, self.critics = actor, critics

    @property
    def optimizers(self) -> list[FlatOptimizer]:
        """The optimizers whose steps are counted."""
        return [self.actor.optimizer, self.critics.optimizer]

    def learn_values(self, batch: Transitions, noise: Floats, learning_rate: float) -> float:
        """Take one step of the critics. :return: their loss before the step."""
        next_actions = self.actor.target_actions(batch.next_observations, noise)
        values = self.critics.target_values(batch.next_observations, next_actions)
        target_q_values = batch.rewards + (1 - batch.dones) * batch.discounts * values
        return self.critics.learn(batch.observations, batch.actions, target_q_values, learning_rate)

    def learn_actions(self, observations: Floats, learning_rate: float) -> float:
        """Take one step of the actor. :return: its loss before the step."""
        loss = self.actor_gradients(observations)
        self.actor.optimizer.step_unclipped(learning_rate)
        return loss

    def actor_gradients(self, observations: Floats) -> float:
        """Write the gradient of the loss -Q1.mean(). :return: the loss."""
        actions = self.actor.act(observations)
        values, action_gradient = self.critics.first(observations, actions)
        delta = action_gradient * np.float32(-1 / len(observations)) * (1 - actions * actions)
        self.actor.network.backward(observations, delta)
        return -mean(values)

    def follow(self, tau: float) -> None:
        """Move all target networks towards their networks by the part `tau`."""
        self.critics.follow(tau)
        self.actor.follow(tau)
