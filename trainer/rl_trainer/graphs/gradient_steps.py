"""One gradient step on a batch from a replay buffer, recorded."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from rl_trainer.graphs.adam import StaticAdam, undone
from rl_trainer.graphs.captures import Capturer
from rl_trainer.graphs.losses import unchecked_distributions


class RecordedStep:
    """Takes a model's gradient steps. Recorded at the first one, on a batch of that form; another form is taken unrecorded.

    Between two calls of `train` the optimizers stay as they are recorded, since a call may be a single step, until :meth:`end`.

    :param model: a :class:`rl_trainer.graphs.replayed.GraphOffPolicy`.
    """

    def __init__(self, model: Any, capturer: Capturer) -> None:
        self._model, self._capturer = model, capturer
        self._adams = [
            StaticAdam(optimizer, model.device, capturable=capturer.without_python)
            for optimizer in model.optimizers()
        ]
        self._batch: Any = None
        self._numbers = torch.zeros(0, device=model.device)
        self._recorded: tuple[Callable[[], None], Callable[[], None]] | None = None

    @contextmanager
    def training(self) -> Iterator[None]:
        """Make steps possible, with the learning rate that the optimizers have now."""
        for adam in self._adams:
            adam.begin()
        with unchecked_distributions():
            yield

    def end(self) -> None:
        """Make the optimizers plain ones, for who reads them."""
        for adam in self._adams:
            adam.end()

    def step(self, samples: Any, *, follow: bool, replayed: bool = True) -> torch.Tensor:
        """Take a step. :param follow: let the targets follow. :param replayed: False: as if nothing had been recorded.

        :return: the numbers to log, on the device.
        """
        if not replayed or (self._batch is not None and _form(samples) != _form(self._batch)):
            numbers: torch.Tensor = self._model.take_step(samples)
            if follow:
                self._model.follow()
            return numbers
        if self._recorded is None:
            self._recorded = self._record(samples)
        for place, values in zip(_tensors(self._batch), _tensors(samples), strict=True):
            place.copy_(values)
        take, let_follow = self._recorded
        take()
        if follow:
            let_follow()
        return self._numbers.clone()

    def _take(self) -> None:
        self._numbers.copy_(self._model.take_step(self._batch))

    def _record(self, samples: Any) -> tuple[Callable[[], None], Callable[[], None]]:
        """Record a step and what follows, and leave parameters, optimizers and generators as they were."""
        self._batch = _copy(samples)
        device = self._model.device
        kept = [tensor for adam in self._adams for tensor in adam.adopt(known=True)]
        with ExitStack() as stack:
            stack.enter_context(
                torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
            )
            stack.enter_context(undone([*self._model.trained(), *kept]))
            self._capturer.warm_up(self._warm)
        for adam in self._adams:
            adam.forget_unknown()
            adam.adopt()
        take = self._capturer.capture(self._take)
        return take, self._capturer.capture(self._model.follow) if self._model.follows(
            0
        ) else self._model.follow

    def _warm(self) -> None:
        self._numbers = self._model.take_step(self._batch).clone()
        self._model.follow()


def _tensors(samples: Any) -> list[torch.Tensor]:
    """All tensors of a batch, in its own order."""
    return [
        tensor
        for part in samples
        if part is not None
        for tensor in (part.values() if isinstance(part, dict) else (part,))
    ]


def _form(samples: Any) -> list[tuple[torch.Size, torch.dtype]]:
    return [(tensor.shape, tensor.dtype) for tensor in _tensors(samples)]


def _copy(samples: Any) -> Any:
    return type(samples)(
        *(
            {key: tensor.clone() for key, tensor in part.items()}
            if isinstance(part, dict)
            else None
            if part is None
            else part.clone()
            for part in samples
        )
    )
