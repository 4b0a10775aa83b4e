"""Adam and RMSprop on flat arrays, of which the model's parameters and moments are views."""

import itertools
import math
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import torch

#: If the clipping scale is smaller, the gradient is so long that its squares would overflow. It is
#: then scaled before it is squared, as torch does.
SMALLEST_SCALE = 1e-12
Floats = np.ndarray[Any, np.dtype[np.float32]]


class FlatParameters:
    """Moves parameters into one flat array, in the given order.

    The torch objects stay valid, because they become views of the array.

    :param parameters: the parameters to move; those that need no gradient are left out.
    """

    def __init__(self, parameters: Iterable[torch.Tensor]) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        size = sum(p.numel() for p in self.parameters)
        self.weights, self.gradient = np.empty(size, np.float32), np.zeros(size, np.float32)

        self._places: dict[int, tuple[slice, torch.Size]] = {}
        offset = 0
        for parameter in self.parameters:
            place = slice(offset, offset + parameter.numel())
            self._places[id(parameter)] = (place, parameter.shape)
            self.weights[place] = parameter.detach().numpy().reshape(-1)
            parameter.data = torch.from_numpy(self.weights[place].reshape(parameter.shape))
            offset = place.stop

    def place(self, parameter: torch.Tensor) -> tuple[slice, torch.Size]:
        """Return a parameter's slice of the flat array, and its shape."""
        return self._places[id(parameter)]

    def views(self, *parameters: torch.Tensor) -> tuple[Floats, Floats]:
        """Return writable views of a parameter's weights and gradient.

        :param parameters: one parameter, or several that are neighbours in the flat array. Their
            rows are joined to one view.
        :raises ValueError: if the parameters are not neighbours.
        """
        places = [self.place(parameter) for parameter in parameters]
        if any(
            before.stop != after.start for (before, _), (after, _) in itertools.pairwise(places)
        ):
            raise ValueError("the parameters are not neighbours in the flat array")

        whole = slice(places[0][0].start, places[-1][0].stop)
        shape = (
            (sum(shape[0] for _, shape in places), *places[0][1][1:])
            if len(places) > 1
            else places[0][1]
        )
        return self.weights[whole].reshape(shape), self.gradient[whole].reshape(shape)


class FlatOptimizer(FlatParameters):
    """Takes a torch optimizer's steps on flat arrays.

    The optimizer's moments become views of flat arrays too, so its `state_dict()` shows every step.
    """

    #: torch's names of the arrays that the optimizer keeps for each parameter.
    slots: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, parameters: Iterable[torch.Tensor], optimizer: torch.optim.Optimizer
    ) -> None:
        super().__init__(parameters)
        size = len(self.weights)
        self.moments = {slot: np.zeros(size, np.float32) for slot in self.slots}
        self._scratch, self._root = np.empty(size, np.float32), np.empty(size, np.float32)
        # torch counts the steps of each parameter separately.
        self._steps, self._count = torch.zeros(len(self.parameters)), 0
        self.group: dict[str, Any] = optimizer.param_groups[0]
        for parameter, step in zip(self.parameters, self._steps, strict=True):
            self._adopt(parameter, step, optimizer)

    def step(self, learning_rate: float, max_norm: float) -> float:
        """Clip the gradient to a norm, as torch's `clip_grad_norm_` does, and take one step.

        :return: the gradient's norm before clipping. It is not finite if the training diverged.
        """
        norm = math.sqrt(float(self.gradient.dot(self.gradient)))
        scale = min(1.0, max_norm / (norm + 1e-6))
        if scale < SMALLEST_SCALE:
            self.gradient *= scale
            scale = 1.0
        self.step_unclipped(learning_rate, scale)
        return norm

    def step_unclipped(self, learning_rate: float, scale: float = 1.0) -> None:
        """Take one step.

        :param scale: factor of the gradient. The array `gradient` itself does not change.
        """
        self._count += 1
        self._move(learning_rate, scale)

    def begin(self) -> None:
        """Read the step counter from the optimizer's state."""
        self._count = int(self._steps.max())

    def end(self) -> None:
        """Write the step counter into the optimizer's state, so that `state_dict()` is complete."""
        self._steps.fill_(self._count)

    def _move(self, learning_rate: float, scale: float) -> None:
        raise NotImplementedError

    def _second_moment(self, slot: str, decay: float, scale: float) -> Floats:
        """Update a running mean of squared gradients, where each gradient is scaled."""
        moment, scratch = self.moments[slot], self._scratch
        moment *= decay
        np.multiply(self.gradient, self.gradient, out=scratch)
        scratch *= (1 - decay) * scale**2
        moment += scratch
        return moment

    def _adopt(
        self, parameter: torch.Tensor, step: torch.Tensor, optimizer: torch.optim.Optimizer
    ) -> None:
        (place, shape), state = self.place(parameter), optimizer.state[parameter]
        if "step" in state:
            step.copy_(state["step"])
        for slot, moment in self.moments.items():
            if slot in state:
                moment[place] = state[slot].numpy().reshape(-1)
            state[slot] = torch.from_numpy(moment[place].reshape(shape))
        state["step"] = step


class FlatAdam(FlatOptimizer):
    """torch.optim.Adam without weight decay."""

    slots = ("exp_avg", "exp_avg_sq")

    def _move(self, learning_rate: float, scale: float) -> None:
        first, scratch, root = self.moments["exp_avg"], self._scratch, self._root
        beta1, beta2 = self.group["betas"]
        first *= beta1
        np.multiply(self.gradient, (1 - beta1) * scale, out=scratch)
        first += scratch
        np.sqrt(self._second_moment("exp_avg_sq", beta2, scale), out=root)
        # torch divides the root by this correction. Here it is a factor of the two numbers below.
        bias = math.sqrt(1 - beta2**self._count)
        root += self.group["eps"] * bias
        np.divide(first, root, out=scratch)
        scratch *= learning_rate * bias / (1 - beta1**self._count)
        self.weights -= scratch


class FlatRmsProp(FlatOptimizer):
    """torch.optim.RMSprop without momentum, centering or weight decay, as A2C uses it."""

    slots = ("square_avg",)

    def _move(self, learning_rate: float, scale: float) -> None:
        scratch, root = self._scratch, self._root
        np.sqrt(self._second_moment("square_avg", self.group["alpha"], scale), out=root)
        root += self.group["eps"]
        np.divide(self.gradient, root, out=scratch)
        scratch *= learning_rate * scale
        self.weights -= scratch


def flat_optimizer_for(optimizer: torch.optim.Optimizer) -> type[FlatOptimizer] | None:
    """Return the class that takes an optimizer's steps; None if no class covers its options."""
    group = optimizer.param_groups[0]
    kinds: dict[type[torch.optim.Optimizer], tuple[type[FlatOptimizer], tuple[str, ...]]] = {
        torch.optim.Adam: (FlatAdam, ("weight_decay", "amsgrad", "maximize")),
        torch.optim.RMSprop: (FlatRmsProp, ("weight_decay", "momentum", "centered", "maximize")),
    }
    found = kinds.get(type(optimizer))
    if (
        found is None
        or len(optimizer.param_groups) != 1
        or any(group[option] for option in found[1])
    ):
        return None
    return found[0]
