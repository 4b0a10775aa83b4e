"""The callback of the training loop: checks for notices and NaN, and reports progress."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback

from rl_trainer.errors import DivergedError, InterruptedTrainingError
from rl_trainer.training.interruptions import Interruption
from rl_trainer.training.progress import TrainingProgress

#: Seconds between two checks for NaN and two reports.
INTERVAL_S = 1.0


@dataclass(frozen=True)
class Room:
    """How far a segment may train before it must wait for the commit of the segment before.

    :param steps: environment steps of this segment.
    :param wait: called once, before the first step after these steps.
    """

    steps: int
    wait: Callable[[], None]


class TrainingWatch(BaseCallback):
    """A callback that SB3 calls at every step.

    Everything except the check for a notice happens at most once a second.

    :param report: called with the progress. An error that it raises ends the training.
    :param room: how far the segment may train before it waits; None means no limit.
    """

    def __init__(
        self,
        interruption: Interruption,
        report: Callable[[TrainingProgress], None] | None = None,
        room: Room | None = None,
    ) -> None:
        super().__init__()
        self.interruption, self.report, self.room = interruption, report, room
        self._next = 0.0
        self._started, self._first_step = time.monotonic(), 0

    def _on_training_start(self) -> None:
        self._started, self._first_step = time.monotonic(), self.model.num_timesteps

    def _on_step(self) -> bool:
        if self.interruption.notice:
            raise InterruptedTrainingError(
                f"{self.interruption.notice} at step {self.model.num_timesteps}"
            )
        if self.room is not None and self.model.num_timesteps - self._first_step > self.room.steps:
            self.room.wait()
            self.room = None
        now = time.monotonic()
        if now >= self._next:
            self._next = now + INTERVAL_S
            check_finite(self.model)
            if self.report is not None:
                self.report(self.progress(now))
        return True

    def progress(self, now: float) -> TrainingProgress:
        """Return the progress of the model."""
        steps = self.model.num_timesteps - self._first_step
        returns = [episode["r"] for episode in self.model.ep_info_buffer or ()]
        mean = float(np.mean(returns)) if returns else None
        return TrainingProgress(
            self.model.num_timesteps,
            steps / max(now - self._started, 1e-9),
            mean if mean is not None and np.isfinite(mean) else None,
        )


def check_finite(model: object) -> None:
    """Check the policy's parameters.

    :raises DivergedError: naming the first parameter that is not finite.
    """
    for name, parameter in model.policy.named_parameters():  # type: ignore[attr-defined]
        if not bool(parameter.detach().isfinite().all()):
            raise DivergedError(
                f"the parameter {name} is not finite at step {model.num_timesteps}: "  # type: ignore[attr-defined]
                "lower the learning rate, or check the rewards"
            )


def check_deviation(model: object) -> None:
    """Check the standard deviations of a Gaussian policy.

    A deviation can be 0 or infinite although its logarithm is finite. torch then refuses to sample.

    :raises DivergedError: naming the step.
    """
    log_std = getattr(model.policy, "log_std", None)  # type: ignore[attr-defined]
    if isinstance(log_std, torch.nn.Parameter):
        deviation = log_std.detach().exp()
        if not bool((deviation.isfinite() & (deviation > 0)).all()):
            raise DivergedError(
                "the policy's standard deviations are between "
                f"{float(deviation.min()):g} and {float(deviation.max()):g} at step "
                f"{model.num_timesteps}: lower the learning rate, or check the rewards"  # type: ignore[attr-defined]
            )
