"""Adam in the form that can be recorded, and back: between two updates it is the plain optimizer that SB3 made.

Recorded, its counter and its learning rate must be on the GPU and its moments where they were; torch calls that `capturable`.
Whoever reads, saves or loads the optimizer between two calls of `train` finds what stock SB3 leaves there.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch


class StaticAdam:
    """Keeps an Adam's state in the same memory while it trains.

    :param optimizer: one that :func:`rl_trainer.graphs.coverage.is_plain_adam` knows. :param capturable: False: only its memory stays.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, device: torch.device, *, capturable: bool
    ) -> None:
        self.optimizer, self._capturable = optimizer, capturable
        # Where it is not capturable, Adam reads it as a number, and SB3's is one of double precision.
        self._learning_rate = torch.zeros(
            (), dtype=torch.float32 if self._capturable else torch.float64, device=device
        )
        self._slots: dict[torch.Tensor, dict[str, torch.Tensor]] = {}
        self._number: float | None = None
        self._foreach = optimizer.param_groups[0]["foreach"]

    def begin(self) -> None:
        """Make it one that can be recorded, with the learning rate that it has now. Safe to repeat."""
        group = self.optimizer.param_groups[0]
        if not isinstance(group["lr"], torch.Tensor):
            self._number = float(group["lr"])
            self._learning_rate.fill_(self._number)
        group["lr"], group["capturable"] = self._learning_rate, self._capturable
        # With a learning rate of 0, where linear schedules end, torch's other form divides 0 by 0.
        group["foreach"] = True if self._capturable else self._foreach
        for parameter in self._slots:
            self._take_up(parameter)

    def end(self) -> None:
        """Make it plain again. Safe to repeat."""
        if self._number is None:
            return
        group = self.optimizer.param_groups[0]
        group["lr"], group["capturable"], group["foreach"] = self._number, False, self._foreach
        for parameter, slots in self._slots.items():
            self.optimizer.state[parameter]["step"] = slots["step"].detach().clone().cpu()
        self._number = None

    def adopt(self, *, known: bool = False) -> list[torch.Tensor]:
        """Give the state of every parameter that has a gradient its place.

        :param known: of every parameter that has a state instead.
        :return: what a step changes, the parameters included.
        """
        group = self.optimizer.param_groups[0]
        moments = ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if group["amsgrad"] else ()))
        for parameter in group["params"]:
            if parameter not in self._slots and (
                parameter in self.optimizer.state if known else parameter.grad is not None
            ):
                step = torch.zeros(
                    (), dtype=torch.float32, device=parameter.device if self._capturable else "cpu"
                )
                self._slots[parameter] = {
                    "step": step,
                    **{name: torch.zeros_like(parameter) for name in moments},
                }
                self._take_up(parameter)
        return [
            tensor
            for parameter, slots in self._slots.items()
            for tensor in (parameter, *slots.values())
        ]

    def _take_up(self, parameter: torch.Tensor) -> None:
        """Copy a parameter's state into its place: it may have been loaded, or be still empty."""
        state = self.optimizer.state[parameter]
        for name, place in self._slots[parameter].items():
            found = state.get(name)
            if found is None:
                place.zero_()
            elif found is not place:
                place.copy_(found)
            state[name] = place

    def forget_unknown(self) -> None:
        """Forget the state of parameters that were given no place: what warming up left there."""
        for parameter in [
            parameter for parameter in self.optimizer.state if parameter not in self._slots
        ]:
            del self.optimizer.state[parameter]


@contextmanager
def undone(tensors: Sequence[torch.Tensor]) -> Iterator[None]:
    """Put tensors' values back when the block ends."""
    before = [tensor.detach().clone() for tensor in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, values in zip(tensors, before, strict=True):
                tensor.copy_(values)
