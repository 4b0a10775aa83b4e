"""The PPO subclass whose updates are replayed. A saved model is a plain one of SB3's class."""

from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.utils import explained_variance

from rl_trainer.graphs.captures import Capturer
from rl_trainer.graphs.losses import LOGGED
from rl_trainer.graphs.rows import rows_of
from rl_trainer.graphs.update import PpoUpdate


class GraphPPO(PPO):
    """SB3's PPO, for models that :func:`rl_trainer.graphs.coverage.why_no_graphs` finds no reason against.

    It draws the same numbers from the same generators as stock SB3, so a seed gives the same training.
    """

    #: Set by who builds the model, before it trains.
    capturer: Capturer
    _update: PpoUpdate | None = None

    def train(self) -> None:
        """Take the epochs over the rollout buffer."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        progress = self._current_progress_remaining
        clip_range: Any = self.clip_range  # SB3 makes schedules of both
        clip_range_vf: Any = self.clip_range_vf
        clips = clip_range(progress), None if clip_range_vf is None else clip_range_vf(progress)
        update = self.prepared()
        update.rollout.load(self.rollout_buffer)
        with update.training(*clips):
            last_epoch = self._epochs(update)
        self._record(update.logged(), last_epoch, *clips)

    def prepared(self) -> PpoUpdate:
        """Give what takes the steps, made once."""
        if self._update is None:
            self._update = PpoUpdate(self, self.capturer)
        return self._update

    def _epochs(self, update: PpoUpdate) -> int:
        """Take the steps. :return: how many minibatches the last epoch had."""
        taken = 0
        for _ in range(self.n_epochs):
            order = torch.from_numpy(np.random.permutation(update.n_rows)).to(self.device)
            going_on, taken = True, 0
            for start in range(0, update.n_rows, update.batch_size):
                going_on, taken = update.step(order[start : start + update.batch_size]), taken + 1
                if not going_on:
                    break
            self._n_updates += 1
            if not going_on:
                break
        return taken

    def _record(
        self,
        numbers: np.ndarray[Any, Any],
        last_epoch: int,
        clip_range: float,
        clip_range_vf: float | None,
    ) -> None:
        """Log what SB3 logs: `approx_kl` of the last epoch, `loss` of the last minibatch, everything else of all."""
        columns = dict(zip(LOGGED, numbers.T, strict=True))
        for name in ("entropy_loss", "policy_gradient_loss", "value_loss", "clip_fraction"):
            self.logger.record(f"train/{name}", np.mean(columns[name], dtype=np.float64))
        self.logger.record("train/approx_kl", np.mean(columns["approx_kl"][-last_epoch:]))
        self.logger.record("train/loss", float(columns["loss"][-1]))
        values, returns = (
            rows_of(self.rollout_buffer, column).flatten()
            for column in (self.rollout_buffer.values, self.rollout_buffer.returns)
        )
        self.logger.record("train/explained_variance", explained_variance(values, returns))
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", torch.exp(self.policy.log_std).mean().item())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", clip_range)
        if clip_range_vf is not None:
            self.logger.record("train/clip_range_vf", clip_range_vf)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "capturer", "_update"]
