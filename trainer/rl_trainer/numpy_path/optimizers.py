"""Adam and RMSprop on one flat array, and the model's parameters and moments as views of it."""

import math
from typing import Any, ClassVar

import numpy as np
import torch

Floats = np.ndarray[Any, np.dtype[np.float32]]


class FlatOptimizer:
    """Moves a policy's parameters and its optimizer's moments into flat arrays, and takes the optimizer's steps there.

    The torch objects stay valid: they become views, so `state_dict()` sees every step at once.
    """

    #: What torch calls the arrays that it keeps for each parameter.
    slots: ClassVar[tuple[str, ...]] = ()

    def __init__(self, policy: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        parameters = [p for p in policy.parameters() if p.requires_grad]
        size = sum(p.numel() for p in parameters)
        self.weights, self.gradient = np.empty(size, np.float32), np.zeros(size, np.float32)
        self.moments = {slot: np.zeros(size, np.float32) for slot in self.slots}
        self._scratch, self._root = np.empty(size, np.float32), np.empty(size, np.float32)
        self._step, self._count = torch.zeros(()), 0
        self.group: dict[str, Any] = optimizer.param_groups[0]
        self._places: dict[int, tuple[int, torch.Size]] = {}
        offset = 0
        for parameter in parameters:
            self._adopt(parameter, optimizer, offset)
            offset += parameter.numel()

    def views(self, parameter: torch.Tensor) -> tuple[Floats, Floats]:
        """The weights and the gradient of one parameter, to read and to write."""
        offset, shape = self._places[id(parameter)]
        place = slice(offset, offset + parameter.numel())
        return self.weights[place].reshape(shape), self.gradient[place].reshape(shape)

    def step(self, learning_rate: float, max_norm: float) -> float:
        """Clip the gradient to a norm, as torch's `clip_grad_norm_` does, and take one step.

        :return: the gradient's norm before clipping; not finite when the training has diverged.
        """
        norm = math.sqrt(float(self.gradient.dot(self.gradient)))
        self.gradient *= min(1.0, max_norm / (norm + 1e-6))
        self._count += 1
        self._move(learning_rate)
        return norm

    def begin(self) -> None:
        """Read the step counter from the optimizer's state."""
        self._count = int(self._step)

    def end(self) -> None:
        """Write the step counter back, so that the optimizer's `state_dict()` is whole."""
        self._step.fill_(self._count)

    def _move(self, learning_rate: float) -> None:
        raise NotImplementedError

    def _second_moment(self, slot: str, decay: float) -> Floats:
        """Update a mean of squared gradients."""
        moment, scratch = self.moments[slot], self._scratch
        moment *= decay
        np.multiply(self.gradient, self.gradient, out=scratch)
        scratch *= 1 - decay
        moment += scratch
        return moment

    def _adopt(self, parameter: torch.nn.Parameter, optimizer: torch.optim.Optimizer, offset: int) -> None:
        place, shape = slice(offset, offset + parameter.numel()), parameter.shape
        self._places[id(parameter)] = (offset, shape)
        self.weights[place] = parameter.detach().numpy().reshape(-1)
        state = optimizer.state[parameter]
        if "step" in state:
            self._step.copy_(state["step"])
        for slot, moment in self.moments.items():
            if slot in state:
                moment[place] = state[slot].numpy().reshape(-1)
            state[slot] = torch.from_numpy(moment[place].reshape(shape))
        parameter.data = torch.from_numpy(self.weights[place].reshape(shape))
        state["step"] = self._step


class FlatAdam(FlatOptimizer):
    """torch.optim.Adam without weight decay."""

    slots = ("exp_avg", "exp_avg_sq")

    def _move(self, learning_rate: float) -> None:
        first, scratch, root = self.moments["exp_avg"], self._scratch, self._root
        beta1, beta2 = self.group["betas"]
        first *= beta1
        np.multiply(self.gradient, 1 - beta1, out=scratch)
        first += scratch
        np.sqrt(self._second_moment("exp_avg_sq", beta2), out=root)
        root /= math.sqrt(1 - beta2 ** self._count)
        root += self.group["eps"]
        np.divide(first, root, out=scratch)
        scratch *= learning_rate / (1 - beta1 ** self._count)
        self.weights -= scratch


class FlatRmsProp(FlatOptimizer):
    """torch.optim.RMSprop without momentum, centering or weight decay: A2C's."""

    slots = ("square_avg",)

    def _move(self, learning_rate: float) -> None:
        scratch, root = self._scratch, self._root
        np.sqrt(self._second_moment("square_avg", self.group["alpha"]), out=root)
        root += self.group["eps"]
        np.divide(self.gradient, root, out=scratch)
        scratch *= learning_rate
        self.weights -= scratch


def flat_optimizer_for(optimizer: torch.optim.Optimizer) -> type[FlatOptimizer] | None:
    """Find the class that takes an optimizer's steps; None if it has options that none covers."""
    group = optimizer.param_groups[0]
    kinds: dict[type[torch.optim.Optimizer], tuple[type[FlatOptimizer], tuple[str, ...]]] = {
        torch.optim.Adam: (FlatAdam, ("weight_decay", "amsgrad", "maximize")),
        torch.optim.RMSprop: (FlatRmsProp, ("weight_decay", "momentum", "centered", "maximize"))}
    found = kinds.get(type(optimizer))
    if found is None or len(optimizer.param_groups) != 1 or any(group[option] for option in found[1]):
        return None
    return found[0]
