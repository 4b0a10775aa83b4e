"""One step of PPO on a minibatch, recorded: what is read and what is written stays in the same memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from rl_trainer.graphs.adam import StaticAdam, undone
from rl_trainer.graphs.captures import Capturer
from rl_trainer.graphs.losses import (
    APPROX_KL,
    LOGGED,
    ClipBounds,
    Weights,
    evaluate,
    forget_gradients,
    unchecked_distributions,
)
from rl_trainer.graphs.rows import StaticRollout


class PpoUpdate:
    """Takes PPO's steps on a model's policy.

    Two recordings make a step: gradients, and the optimizer. `target_kl` may end the training between the two, and is the
    one thing for which the CPU waits. A minibatch of another length than the recorded one takes the same functions, unrecorded.

    :param model: a PPO that :func:`rl_trainer.graphs.coverage.why_no_graphs` has no reason against. Its coefficients and the lengths
        of its rollout and minibatches are recorded as they are now.
    """

    def __init__(self, model: Any, capturer: Capturer) -> None:
        buffer, device = model.rollout_buffer, model.device
        self.device = device
        self.n_rows = buffer.buffer_size * buffer.n_envs
        self.batch_size = min(model.batch_size, self.n_rows)
        self.rollout, self.bounds = StaticRollout(buffer, device), ClipBounds(device)
        self._policy, self._max_grad_norm, self._target_kl = (
            model.policy,
            model.max_grad_norm,
            model.target_kl,
        )
        self._weights = Weights(
            model.ent_coef,
            model.vf_coef,
            model.normalize_advantage,
            model.clip_range_vf is not None,
        )
        self._adam, self._capturer = (
            StaticAdam(model.policy.optimizer, device, capturable=capturer.without_python),
            capturer,
        )
        self._indices = torch.arange(self.batch_size, device=device)
        self._numbers = torch.zeros(len(LOGGED), device=device)
        self._history = torch.zeros(
            (model.n_epochs * -(-self.n_rows // self.batch_size), len(LOGGED)), device=device
        )
        self._taken = 0
        self._recorded: tuple[Callable[[], None], Callable[[], None]] | None = None
        self._gradients: list[torch.Tensor | None] = []

    @contextmanager
    def training(self, clip_range: float, clip_range_vf: float | None) -> Iterator[None]:
        """Make steps possible, on the rollout that was loaded; the first time they are recorded. It leaves a plain model of SB3."""
        self.bounds.set(clip_range, clip_range_vf)
        self._taken = 0
        self._adam.begin()
        try:
            with unchecked_distributions():
                if self._recorded is None:
                    self._record()
                yield
        finally:
            self._adam.end()

    def step(self, indices: torch.Tensor, *, replayed: bool = True) -> bool:
        """Take a step, if `target_kl` lets it.

        :param indices: the minibatch's rows, on the device. :param replayed: False: as if nothing had been recorded.
        :return: whether to go on.
        """
        if replayed and self._recorded is not None and len(indices) == self.batch_size:
            self._indices.copy_(indices)
            find_gradients, apply = self._recorded
        else:
            find_gradients, apply = lambda: self._find_gradients(indices), self._apply
        find_gradients()
        self._history[self._taken].copy_(self._numbers)
        self._taken += 1
        if (
            self._target_kl is not None
            and self._numbers[APPROX_KL].cpu().numpy() > 1.5 * self._target_kl
        ):
            return False
        apply()
        return True

    def logged(self) -> np.ndarray[Any, Any]:
        """The numbers of :data:`LOGGED` of each minibatch since the training began: read from the device at once."""
        taken: np.ndarray[Any, Any] = self._history[: self._taken].cpu().numpy().copy()
        return taken

    def _find_gradients(self, indices: torch.Tensor) -> None:
        loss, numbers = evaluate(
            self._policy, self.rollout.select(indices), self.bounds, self._weights
        )
        self._numbers.copy_(numbers)
        self._adam.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        forget_gradients(self._policy.action_dist)

    def _apply(self) -> None:
        torch.nn.utils.clip_grad_norm_(self._policy.parameters(), self._max_grad_norm)
        self._adam.optimizer.step()

    def _record(self) -> None:
        """Record both halves of a step, and leave parameters, optimizer and generators as they were."""
        forget_gradients(self._policy.action_dist)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            self._capturer.warm_up(lambda: self._find_gradients(self._indices))
            with undone(self._adam.adopt()):
                self._capturer.warm_up(self._apply)
        find_gradients = self._capturer.capture(lambda: self._find_gradients(self._indices))
        self._gradients = [
            parameter.grad for parameter in self._policy.parameters()
        ]  # the second half reads these very tensors
        self._recorded = find_gradients, self._capturer.capture(self._apply)
