"""TD3's and DDPG's gradient step. Line by line this is `TD3.train` of SB3, with the derivative of
each line beside it:
https://github.com/DLR-RM/stable-baselines3/blob/master/stable_baselines3/td3/td3.py
"""

import numpy as np

from rl_trainer.numpy_path.critics import Critics, follow
from rl_trainer.numpy_path.distributions import mean
from rl_trainer.numpy_path.layers import Mlp
from rl_trainer.numpy_path.optimizers import FlatOptimizer, FlatParameters, Floats
from rl_trainer.numpy_path.replay import Transitions


class SquashedActor:
    """The actor, and the target that follows it: a network and a tanh behind it."""

    def __init__(
        self, network: Mlp, target: Mlp, optimizer: FlatOptimizer, target_parameters: FlatParameters
    ) -> None:
        self.network, self.target, self.optimizer, self.target_parameters = (
            network,
            target,
            optimizer,
            target_parameters,
        )
        self._scratch = np.empty_like(optimizer.weights)

    def act(self, observations: Floats) -> Floats:
        """Actions between -1 and 1."""
        return np.tanh(self.network.forward(observations))

    def target_actions(self, observations: Floats, noise: Floats) -> Floats:
        """What the target would do, smoothed by noise."""
        actions = np.tanh(self.target.forward(observations))
        actions += noise
        return np.clip(actions, -1, 1, out=actions)

    def follow(self, tau: float) -> None:
        """Move the target a little towards the network."""
        follow(self.target_parameters.weights, self.optimizer.weights, tau, self._scratch)


class DeterministicUpdate:
    """Takes steps on a TD3 policy whose parameters are views of flat arrays."""

    def __init__(self, actor: SquashedActor, critics: Critics) -> None:
        self.actor, self.critics = actor, critics

    @property
    def optimizers(self) -> list[FlatOptimizer]:
        """All that count steps."""
        return [self.actor.optimizer, self.critics.optimizer]

    def learn_values(self, batch: Transitions, noise: Floats, learning_rate: float) -> float:
        """Take one step of the critics. :return: their loss before."""
        following = self.actor.target_actions(batch.next_observations, noise)
        values = self.critics.target_values(batch.next_observations, following)
        wanted = batch.rewards + (1 - batch.dones) * batch.discounts * values
        return self.critics.learn(batch.observations, batch.actions, wanted, learning_rate)

    def learn_actions(self, observations: Floats, learning_rate: float) -> float:
        """Take one step of the actor. :return: its loss before."""
        loss = self.actor_gradients(observations)
        self.actor.optimizer.step_unclipped(learning_rate)
        return loss

    def actor_gradients(self, observations: Floats) -> float:
        """Write the gradient of -Q1.mean(), and give its value."""
        actions = self.actor.act(observations)
        values, by_action = self.critics.first(observations, actions)
        delta = by_action * np.float32(-1 / len(observations)) * (1 - actions * actions)
        self.actor.network.backward(observations, delta)
        return -mean(values)

    def follow(self, tau: float) -> None:
        """Move all targets a little."""
        self.critics.follow(tau)
        self.actor.follow(tau)
