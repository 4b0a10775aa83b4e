"""Adam in the form that can be recorded, and back: between two updates it is the plain optimizer that SB3 made.

Recorded, its counter and its learning rate must be on the GPU and its moments where they were; torch calls that `capturable`.
Whoever reads, saves or loads the optimizer between two calls of `train` finds what stock SB3 leaves there.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class StaticAdam:
    """Keeps an Adam's state in the same memory while it trains.

    :param optimizer: one that :func:`rl_trainer.graphs.coverage.is_plain_adam` knows. :param capturable: False: only its memory stays.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device, *, capturable: bool) -> None:
        self.optimizer, self._capturable = optimizer, capturable
        # Where it is not capturable, Adam reads it as a number, and SB3's is one of double precision.
        self._learning_rate = torch.zeros((), dtype=torch.float32 if self._capturable else torch.float64, device=device)
        self._slots: dict[torch.Tensor, dict[str, torch.Tensor]] = {}

    @contextmanager
    def training(self) -> Iterator[None]:
        """Make it one that can be recorded, with the learning rate that it has now; afterwards it is plain again."""
        group = self.optimizer.param_groups[0]
        learning_rate = float(group["lr"])
        self._learning_rate.fill_(learning_rate)
        group["lr"], group["capturable"] = self._learning_rate, self._capturable
        for parameter in self._slots:
            self._take_up(parameter)
        try:
            yield
        finally:
            group["lr"], group["capturable"] = learning_rate, False
            for parameter in self._slots:
                self.optimizer.state[parameter]["step"] = self._slots[parameter]["step"].detach().clone().cpu()

    def adopt(self) -> list[torch.Tensor]:
        """Give the state of every parameter that has a gradient its place. :return: what a step changes, the parameters included."""
        group = self.optimizer.param_groups[0]
        moments = ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if group["amsgrad"] else ()))
        for parameter in group["params"]:
            if parameter.grad is not None and parameter not in self._slots:
                step = torch.zeros((), dtype=torch.float32, device=parameter.device if self._capturable else "cpu")
                self._slots[parameter] = {"step": step, **{name: torch.zeros_like(parameter) for name in moments}}
                self._take_up(parameter)
        return [tensor for parameter, slots in self._slots.items() for tensor in (parameter, *slots.values())]

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
