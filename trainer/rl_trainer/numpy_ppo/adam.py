"""Adam on one flat array, and the model's parameters and moments as views of it."""

import math
from typing import Any

import numpy as np
import torch

Floats = np.ndarray[Any, np.dtype[np.float32]]


class FlatAdam:
    """Moves an SB3 policy's parameters and its optimizer's moments into flat arrays, and takes Adam's steps there.

    The torch objects stay valid: they become views, so `state_dict()` sees every step at once.
    """

    def __init__(self, policy: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        parameters = [p for p in policy.parameters() if p.requires_grad]
        size = sum(p.numel() for p in parameters)
        self.weights, self.gradient = np.empty(size, np.float32), np.zeros(size, np.float32)
        self._first, self._second = np.zeros(size, np.float32), np.zeros(size, np.float32)
        self._scratch, self._root = np.empty(size, np.float32), np.empty(size, np.float32)
        self._step = torch.zeros(())
        self._group: dict[str, Any] = optimizer.param_groups[0]
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
        """Clip the gradient to a norm and take one step, as torch's `clip_grad_norm_` and `Adam.step` do.

        :return: the gradient's norm before clipping; not finite when the training has diverged.
        """
        gradient, first, second, scratch, root = self.gradient, self._first, self._second, self._scratch, self._root
        beta1, beta2 = self._group["betas"]
        norm = math.sqrt(float(gradient.dot(gradient)))
        gradient *= min(1.0, max_norm / (norm + 1e-6))
        self._count += 1
        first *= beta1
        np.multiply(gradient, 1 - beta1, out=scratch)
        first += scratch
        second *= beta2
        np.multiply(gradient, gradient, out=scratch)
        scratch *= 1 - beta2
        second += scratch
        np.sqrt(second, out=root)
        root /= math.sqrt(1 - beta2 ** self._count)
        root += self._group["eps"]
        np.divide(first, root, out=scratch)
        scratch *= learning_rate / (1 - beta1 ** self._count)
        self.weights -= scratch
        return norm

    def begin(self) -> None:
        """Read the step counter from the optimizer's state."""
        self._count = int(self._step)

    def end(self) -> None:
        """Write the step counter back, so that the optimizer's `state_dict()` is whole."""
        self._step.fill_(self._count)

    def _adopt(self, parameter: torch.nn.Parameter, optimizer: torch.optim.Optimizer, offset: int) -> None:
        place, shape = slice(offset, offset + parameter.numel()), parameter.shape
        self._places[id(parameter)] = (offset, shape)
        self.weights[place] = parameter.detach().numpy().reshape(-1)
        state = optimizer.state[parameter]
        if "exp_avg" in state:
            self._first[place] = state["exp_avg"].numpy().reshape(-1)
            self._second[place] = state["exp_avg_sq"].numpy().reshape(-1)
            self._step.copy_(state["step"])
        parameter.data = torch.from_numpy(self.weights[place].reshape(shape))
        state["exp_avg"] = torch.from_numpy(self._first[place].reshape(shape))
        state["exp_avg_sq"] = torch.from_numpy(self._second[place].reshape(shape))
        state["step"] = self._step
