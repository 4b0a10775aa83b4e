"""The PPO subclass whose rollouts and updates run in NumPy."""

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecEnv

from rl_trainer.numpy_ppo.adam import FlatAdam
from rl_trainer.numpy_ppo.distributions import ActionDistribution, Categorical, DiagonalGaussian
from rl_trainer.numpy_ppo.layers import Mlp
from rl_trainer.numpy_ppo.rollout import collect
from rl_trainer.numpy_ppo.update import Coefficients, Losses, Minibatch, PpoUpdate


class NumpyPPO(PPO):
    """SB3's PPO, for models that :func:`rl_trainer.numpy_ppo.coverage.why_not_covered` finds no reason against.

    A saved model is a plain PPO model. Actions are drawn from a generator of its own, so that a seed gives another
    sequence than stock SB3: the same algorithm, not the same numbers.
    """

    _engine: PpoUpdate | None = None
    _actions: np.random.Generator

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer,
                         n_rollout_steps: int) -> bool:
        """Fill SB3's own rollout buffer."""
        engine = self._prepared()
        self.policy.set_training_mode(False)
        return collect(self, engine, self._actions, env, callback, rollout_buffer, n_rollout_steps)

    def train(self) -> None:
        """Take the epochs over the rollout buffer."""
        engine = self._prepared()
        self._update_learning_rate(self.policy.optimizer)
        coefficients = self._coefficients()
        rollout = _flattened(self.rollout_buffer, discrete=isinstance(self.action_space, spaces.Discrete))
        engine.adam.begin()
        losses = self._epochs(engine, rollout, coefficients)
        engine.adam.end()
        self._record(losses, rollout, coefficients)

    def _epochs(self, engine: PpoUpdate, rollout: Minibatch, coefficients: Coefficients) -> list[Losses]:
        losses: list[Losses] = []
        for _ in range(self.n_epochs):
            order, going_on = np.random.permutation(len(rollout.returns)), True
            shuffled = Minibatch(*(column[order] for column in rollout))
            for start in range(0, len(order), self.batch_size):
                batch = Minibatch(*(column[start:start + self.batch_size] for column in shuffled))
                step, going_on = engine.step(batch, coefficients)
                losses.append(step)
                if not going_on:
                    break
            self._n_updates += 1
            if not going_on:
                break
        return losses

    def _coefficients(self) -> Coefficients:
        progress = self._current_progress_remaining
        clip_range: Any = self.clip_range  # SB3 makes schedules of both
        clip_range_vf: Any = self.clip_range_vf
        return Coefficients(
            learning_rate=self.lr_schedule(progress), clip_range=clip_range(progress),
            clip_range_vf=None if clip_range_vf is None else clip_range_vf(progress), entropy=self.ent_coef,
            value=self.vf_coef, max_grad_norm=self.max_grad_norm, normalize_advantage=self.normalize_advantage,
            target_kl=self.target_kl)

    def _record(self, losses: list[Losses], rollout: Minibatch, coefficients: Coefficients) -> None:
        means = Losses(*(float(np.mean(column)) for column in zip(*losses, strict=True)))
        for key, value in (("entropy_loss", means.entropy), ("policy_gradient_loss", means.policy),
                           ("value_loss", means.value), ("approx_kl", means.approx_kl), ("clip_fraction", means.clip_fraction),
                           ("gradient_norm", means.gradient_norm), ("clip_range", coefficients.clip_range),
                           ("explained_variance", explained_variance(rollout.old_values, rollout.returns))):
            self.logger.record(f"train/{key}", value)
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", float(np.exp(self.policy.log_std.detach().numpy()).mean()))
        self.logger.record("train/n_updates", self._n_updates)

    def _prepared(self) -> PpoUpdate:
        if self._engine is None:
            self._engine = build_update(self)
            self._actions = np.random.default_rng(int(np.random.randint(2**31)))
        return self._engine

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_engine", "_actions"]


def build_update(model: PPO) -> PpoUpdate:
    """Move a covered model's parameters into flat arrays, and give the engine that trains them."""
    policy = model.policy
    adam = FlatAdam(policy, policy.optimizer)
    relu = policy.activation_fn is torch.nn.ReLU
    distribution: ActionDistribution = (
        Categorical(int(model.action_space.n)) if isinstance(model.action_space, spaces.Discrete)
        else DiagonalGaussian(*adam.views(policy.log_std)))
    return PpoUpdate(adam, Mlp([*policy.mlp_extractor.policy_net, policy.action_net], adam, relu=relu),
                     Mlp([*policy.mlp_extractor.value_net, policy.value_net], adam, relu=relu), distribution)


def _flattened(buffer: RolloutBuffer, *, discrete: bool) -> Minibatch:
    """The rollout as rows, in SB3's order: one environment after another."""
    def rows(column: np.ndarray[Any, Any]) -> Any:
        return column.swapaxes(0, 1).reshape(-1, *column.shape[2:])

    observations = rows(buffer.observations).reshape(buffer.buffer_size * buffer.n_envs, -1)
    actions = rows(buffer.actions)
    return Minibatch(observations.astype(np.float32, copy=False),
                     actions[:, 0] if discrete else actions.astype(np.float32, copy=False), rows(buffer.values),
                     rows(buffer.log_probs), rows(buffer.advantages), rows(buffer.returns))
