"""The subclasses of SB3's SAC, TD3, DDPG and DQN whose actions and updates run in NumPy.

They draw from the same generators in the same order as stock SB3. So a seed gives the same
training, except for rounding.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from stable_baselines3 import DDPG, DQN, SAC, TD3
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from rl_trainer.numpy_path.critics import Critics
from rl_trainer.numpy_path.dqn_update import DqnUpdate
from rl_trainer.numpy_path.layers import (
    Activation,
    Array,
    Mlp,
    activation_of,
    joined,
    linear_layers,
)
from rl_trainer.numpy_path.optimizers import (
    FlatOptimizer,
    FlatParameters,
    Floats,
    flat_optimizer_for,
)
from rl_trainer.numpy_path.replay import Transitions, draw
from rl_trainer.numpy_path.sac_update import SacUpdate, SquashedGaussian, Temperature
from rl_trainer.numpy_path.td3_update import SquashedActor, Td3Update


class Engine(Protocol):
    """The part of a model that takes gradient steps."""

    @property
    def optimizers(self) -> list[FlatOptimizer]:
        """The optimizers whose steps are counted."""
        ...


class NumpyOffPolicy(OffPolicyAlgorithm):
    """The common part of all four algorithms. A saved model is a plain model of SB3's class."""

    _engine: Any = None

    def prepared(self) -> Any:
        """Return the engine that trains the model. The first call builds it."""
        if self._engine is None:
            self._engine = self.build_engine()
            # The covered layers act the same in both modes, so the mode is set only once.
            self.policy.set_training_mode(False)
        return self._engine

    def build_engine(self) -> Engine:
        """Move the parameters into flat arrays, and build the engine that trains them."""
        raise NotImplementedError

    def explore(
        self, observations: Floats, action_noise: ActionNoise | None
    ) -> tuple[Array, Array]:
        """Choose actions after the warm-up.

        :return: the actions for the environment, and the actions for the buffer.
        """
        raise NotImplementedError

    def draw(self, batch_size: int) -> Transitions:
        """Draw a minibatch from the replay buffer."""
        return draw(self.replay_buffer, batch_size, self._vec_normalize_env, self.gamma)

    def begin(self, optimizers: Sequence[torch.optim.Optimizer]) -> float:
        """Begin a round of gradient steps. :return: the learning rate of the round."""
        self._update_learning_rate(list(optimizers))
        for optimizer in self.prepared().optimizers:
            optimizer.begin()
        return float(self.lr_schedule(self._current_progress_remaining))

    def end(self) -> None:
        """End a round of gradient steps."""
        for optimizer in self.prepared().optimizers:
            optimizer.end()

    def log(self, **values: Sequence[float]) -> None:
        """Log the means as SB3 does. An empty column is not logged."""
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, column in values.items():
            if column:
                self.logger.record(f"train/{name}", float(np.mean(column)))

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[Array, Array]:
        if self.num_timesteps < learning_starts:
            return super()._sample_action(learning_starts, action_noise, n_envs)
        observations: Any = self._last_obs
        return self.explore(
            observations.reshape(n_envs, -1).astype(np.float32, copy=False), action_noise
        )

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_engine"]


class _Continuous(NumpyOffPolicy):
    """The exploration of SAC and TD3: actions between -1 and 1, with optional noise."""

    def squashed(self, observations: Floats) -> Floats:
        """Return the actor's actions, between -1 and 1."""
        raise NotImplementedError

    def explore(
        self, observations: Floats, action_noise: ActionNoise | None
    ) -> tuple[Array, Array]:
        """Add noise to the actor's actions, and scale them to the environment's bounds."""
        actions: Array = self.squashed(observations)
        if action_noise is not None:
            actions = np.clip(actions + action_noise(), -1, 1)
        return self.policy.unscale_action(actions), actions


class NumpySAC(_Continuous, SAC):
    """SB3's SAC, for models that the NumPy path covers (:mod:`rl_trainer.numpy_path.coverage`)."""

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Take gradient steps on minibatches from the replay buffer."""
        engine: SacUpdate = self.prepared()
        extra = [self.ent_coef_optimizer] if self.ent_coef_optimizer is not None else []
        learning_rate = self.begin([self.actor.optimizer, self.critic.optimizer, *extra])

        losses = []
        for gradient_step in range(gradient_steps):
            batch = self.draw(batch_size)
            noise, next_noise = self._noise(batch_size), self._noise(batch_size)
            losses.append(engine.step(batch, noise, next_noise, learning_rate))
            if gradient_step % self.target_update_interval == 0:
                engine.critics.follow(self.tau)

        self.end()
        self._n_updates += gradient_steps
        names = ["ent_coef", "actor_loss", "critic_loss", *(["ent_coef_loss"] if extra else [])]
        self.log(**{name: [getattr(loss, name) for loss in losses] for name in names})

    def squashed(self, observations: Floats) -> Floats:
        """Sample actions from the actor."""
        engine: SacUpdate = self.prepared()
        return engine.actor.sample(observations, self._noise(len(observations))).actions

    def build_engine(self) -> SacUpdate:
        """Build the actor with both heads as one layer, the critics and the temperature."""
        actor: Any = self.actor
        activation = activation_of(self.policy)
        heads = (actor.mu, actor.log_std)
        optimizer = _flat(
            [
                *actor.latent_pi.parameters(),
                *(head.weight for head in heads),
                *(head.bias for head in heads),
            ],
            actor.optimizer,
        )
        network = Mlp(
            [*linear_layers(actor.latent_pi, optimizer), joined(heads, optimizer)], activation
        )
        critics = _critics(self, activation, loss_scale=0.5)
        return SacUpdate(SquashedGaussian(network), optimizer, critics, self._temperature())

    def _temperature(self) -> Temperature:
        target_entropy: Any = self.target_entropy
        if self.ent_coef_optimizer is None or self.log_ent_coef is None:
            return Temperature(float(self.ent_coef_tensor), target_entropy, None)
        return Temperature(0.0, target_entropy, _flat([self.log_ent_coef], self.ent_coef_optimizer))

    def _noise(self, rows: int) -> Floats:
        noise: Floats = torch.randn((rows, *self.action_space.shape)).numpy()  # type: ignore[misc]
        return noise


class NumpyTD3(_Continuous, TD3):
    """SB3's TD3, for models that the NumPy path covers (:mod:`rl_trainer.numpy_path.coverage`)."""

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Take gradient steps on minibatches from the replay buffer."""
        engine: Td3Update = self.prepared()
        learning_rate = self.begin([self.actor.optimizer, self.critic.optimizer])
        actor_losses, critic_losses = [], []
        for _ in range(gradient_steps):
            self._n_updates += 1
            batch = self.draw(batch_size)

            noise = torch.empty(batch.actions.shape).normal_(0, self.target_policy_noise).numpy()
            noise = np.clip(noise, -self.target_noise_clip, self.target_noise_clip)

            critic_losses.append(engine.learn_values(batch, noise, learning_rate))
            if self._n_updates % self.policy_delay == 0:
                actor_losses.append(engine.learn_actions(batch.observations, learning_rate))
                engine.follow(self.tau)

        self.end()
        self.log(actor_loss=actor_losses, critic_loss=critic_losses)

    def squashed(self, observations: Floats) -> Floats:
        """Return the actor's deterministic actions."""
        engine: Td3Update = self.prepared()
        return engine.actor.act(observations)

    def build_engine(self) -> Td3Update:
        """Build the actor, the critics and the target networks of both."""
        activation = activation_of(self.policy)
        optimizer, target = (
            _flat(self.actor.parameters(), self.actor.optimizer),
            FlatParameters(self.actor_target.parameters()),
        )
        actor = SquashedActor(
            Mlp(linear_layers(self.actor.mu, optimizer), activation),
            Mlp(linear_layers(self.actor_target.mu, target), activation),
            optimizer,
            target,
        )

        return Td3Update(actor, _critics(self, activation, loss_scale=1.0))


class NumpyDDPG(NumpyTD3, DDPG):
    """SB3's DDPG, which is TD3 with one critic and without noise on the target's actions."""


class NumpyDQN(NumpyOffPolicy, DQN):
    """SB3's DQN, for models that the NumPy path covers (:mod:`rl_trainer.numpy_path.coverage`)."""

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Take gradient steps on minibatches from the replay buffer."""
        engine: DqnUpdate = self.prepared()
        learning_rate = self.begin([self.policy.optimizer])
        losses = [
            engine.step(self.draw(batch_size), learning_rate, self.max_grad_norm)
            for _ in range(gradient_steps)
        ]
        self.end()
        self._n_updates += gradient_steps
        self.log(loss=losses)

    def explore(
        self, observations: Floats, action_noise: ActionNoise | None
    ) -> tuple[Array, Array]:
        """Take the best actions, or with the exploration rate as probability random actions."""
        del action_noise  # SB3 gives DQN no action noise
        if np.random.rand() < self.exploration_rate:
            actions = np.array([self.action_space.sample() for _ in range(len(observations))])
        else:
            engine: DqnUpdate = self.prepared()
            actions = engine.act(observations)
        return actions, actions

    def build_engine(self) -> DqnUpdate:
        """Build the network and its target network."""
        activation = activation_of(self.policy)
        optimizer, target = (
            _flat(self.q_net.parameters(), self.policy.optimizer),
            FlatParameters(self.q_net_target.parameters()),
        )
        return DqnUpdate(
            Mlp(linear_layers(self.q_net.q_net, optimizer), activation),
            Mlp(linear_layers(self.q_net_target.q_net, target), activation),
            optimizer,
        )


def _critics(model: Any, activation: Activation, loss_scale: float) -> Critics:
    return Critics(
        model.critic,
        model.critic_target,
        _flat(model.critic.parameters(), model.critic.optimizer),
        activation,
        loss_scale=loss_scale,
    )


def _flat(parameters: Any, optimizer: torch.optim.Optimizer) -> FlatOptimizer:
    kind = flat_optimizer_for(optimizer)
    if kind is None:
        raise TypeError(f"{type(optimizer).__name__} with these options is not covered")
    return kind(parameters, optimizer)
