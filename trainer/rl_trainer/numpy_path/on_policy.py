"""The subclasses of SB3's PPO and A2C whose rollouts and updates run in NumPy."""

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecEnv

from rl_trainer.numpy_path.actor_critic import in_pairs, paired_mlps, two_mlps
from rl_trainer.numpy_path.distributions import (
    ActionDistribution,
    Categorical,
    DiagonalGaussian,
    mean,
)
from rl_trainer.numpy_path.layers import activation_of
from rl_trainer.numpy_path.on_policy_update import (
    A2cUpdate,
    ActorCriticUpdate,
    Coefficients,
    Losses,
    PpoUpdate,
    Rows,
    StepsTaken,
    policy_change,
)
from rl_trainer.numpy_path.optimizers import flat_optimizer_for
from rl_trainer.numpy_path.rollout import collect


class NumpyOnPolicy(OnPolicyAlgorithm):
    """The common part of PPO and A2C. A saved model is a plain model of SB3's class.

    Actions are drawn from a generator of the model's own. So a seed gives other random numbers than
    with stock SB3, but the algorithm is the same.
    """

    _update_class: type[ActorCriticUpdate]
    _engine: ActorCriticUpdate | None = None
    _actions: np.random.Generator

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """Fill SB3's own rollout buffer."""
        engine = self.prepared()
        self.policy.set_training_mode(False)
        return collect(self, engine, self._actions, env, callback, rollout_buffer, n_rollout_steps)

    def prepared(self) -> ActorCriticUpdate:
        """Return the engine that trains the model. The first call builds it."""
        if self._engine is None:
            self._engine = build_update(self, self._update_class)
            self.renew_generator()
        return self._engine

    def renew_generator(self) -> None:
        """Seed the generator of the actions anew, from NumPy's global generator."""
        self._actions = np.random.default_rng(int(np.random.randint(2**31)))

    def record(self, losses: Losses, rollout: Rows, names: dict[str, str]) -> None:
        """Log the means over the minibatches, as SB3 does.

        :param names: field of :class:`Losses` → SB3's name.
        """
        for field, name in names.items():
            column = getattr(losses, field)
            # The column of gradient norms is empty if `target_kl` stopped the first minibatch.
            self.logger.record(f"train/{name}", mean(column) if len(column) else math.nan)
        self.logger.record(
            "train/explained_variance", explained_variance(rollout.old_values, rollout.returns)
        )
        if hasattr(self.policy, "log_std"):
            self.logger.record(
                "train/std", float(np.exp(self.policy.log_std.detach().numpy()).mean())
            )
        self.logger.record("train/n_updates", self._n_updates)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_engine", "_actions"]


class NumpyPPO(NumpyOnPolicy, PPO):
    """SB3's PPO, for models that the NumPy path covers (:mod:`rl_trainer.numpy_path.coverage`)."""

    _update_class = PpoUpdate

    def train(self) -> None:
        """Run all epochs over the rollout buffer."""
        engine = self.prepared()
        self._update_learning_rate(self.policy.optimizer)
        coefficients, rollout = (
            self._coefficients(),
            rows_of(self.rollout_buffer, engine.distribution),
        )

        engine.optimizer.begin()
        taken = self._epochs(engine, rollout, coefficients)
        engine.optimizer.end()

        losses = engine.losses(taken, coefficients)
        self.record(
            losses,
            rollout,
            {
                "policy": "policy_gradient_loss",
                "value": "value_loss",
                "entropy": "entropy_loss",
                "gradient_norm": "gradient_norm",
            },
        )
        approx_kl, clip_fraction = policy_change(taken, coefficients)
        self.logger.record("train/approx_kl", approx_kl)
        self.logger.record("train/clip_fraction", clip_fraction)
        self.logger.record("train/loss", losses.last(coefficients))
        self.logger.record("train/clip_range", coefficients.clip_range)
        if coefficients.clip_range_vf is not None:
            self.logger.record("train/clip_range_vf", coefficients.clip_range_vf)

    def _epochs(
        self, engine: ActorCriticUpdate, rollout: Rows, coefficients: Coefficients
    ) -> StepsTaken:
        taken = StepsTaken()
        for _ in range(self.n_epochs):
            shuffled = rollout.chosen(np.random.permutation(len(rollout.returns)))
            goes_on = engine.epoch(shuffled, self.batch_size, coefficients, taken)
            self._n_updates += 1
            if not goes_on:
                break
        return taken

    def _coefficients(self) -> Coefficients:
        progress = self._current_progress_remaining
        clip_range: Any = self.clip_range  # SB3 turns both into schedules
        clip_range_vf: Any = self.clip_range_vf
        return Coefficients(
            learning_rate=self.lr_schedule(progress),
            clip_range=clip_range(progress),
            clip_range_vf=None if clip_range_vf is None else clip_range_vf(progress),
            entropy=self.ent_coef,
            value=self.vf_coef,
            max_grad_norm=self.max_grad_norm,
            normalize_advantage=self.normalize_advantage,
            target_kl=self.target_kl,
        )


class NumpyA2C(NumpyOnPolicy, A2C):
    """SB3's A2C, for models that the NumPy path covers (:mod:`rl_trainer.numpy_path.coverage`)."""

    _update_class = A2cUpdate

    def train(self) -> None:
        """Take one step on the whole rollout buffer."""
        engine = self.prepared()
        self._update_learning_rate(self.policy.optimizer)
        coefficients = Coefficients(
            learning_rate=self.lr_schedule(self._current_progress_remaining),
            clip_range=0.0,
            clip_range_vf=None,
            entropy=self.ent_coef,
            value=self.vf_coef,
            max_grad_norm=self.max_grad_norm,
            normalize_advantage=self.normalize_advantage,
            target_kl=None,
        )
        rollout = rows_of(self.rollout_buffer, engine.distribution)
        # SB3 also shuffles here, and draws from the same generator.
        order = np.random.permutation(len(rollout.returns))
        engine.optimizer.begin()
        taken = StepsTaken()
        engine.epoch(rollout.chosen(order), len(order), coefficients, taken)
        engine.optimizer.end()
        self._n_updates += 1
        self.record(
            engine.losses(taken, coefficients),
            rollout,
            {
                "policy": "policy_loss",
                "value": "value_loss",
                "entropy": "entropy_loss",
                "gradient_norm": "gradient_norm",
            },
        )


def build_update(
    model: OnPolicyAlgorithm, update_class: type[ActorCriticUpdate]
) -> ActorCriticUpdate:
    """Move a covered model's parameters into flat arrays, and return the engine that trains them.

    :raises TypeError: if the NumPy path does not cover the optimizer.
    """
    policy = model.policy
    flat = flat_optimizer_for(policy.optimizer)
    if flat is None:
        raise TypeError(f"{type(policy.optimizer).__name__} with these options is not covered")
    optimizer, activation = flat(in_pairs(policy), policy.optimizer), activation_of(policy)
    distribution: ActionDistribution = (
        Categorical(int(model.action_space.n))
        if isinstance(model.action_space, spaces.Discrete)
        else DiagonalGaussian(*optimizer.views(policy.log_std))
    )
    return update_class(
        optimizer,
        two_mlps(policy, optimizer, activation),
        paired_mlps(policy, optimizer, activation),
        distribution,
    )


def rows_of(buffer: RolloutBuffer, distribution: ActionDistribution) -> Rows:
    """Return the rollout as rows in SB3's order: all steps of an environment, then the next."""

    def rows(column: np.ndarray[Any, Any]) -> Any:
        return column.swapaxes(0, 1).reshape(-1, *column.shape[2:])

    observations = rows(buffer.observations).reshape(buffer.buffer_size * buffer.n_envs, -1)
    return Rows(
        observations.astype(np.float32, copy=False),
        distribution.columns(rows(buffer.actions)),
        rows(buffer.values),
        rows(buffer.log_probs),
        rows(buffer.advantages),
        rows(buffer.returns),
    )
