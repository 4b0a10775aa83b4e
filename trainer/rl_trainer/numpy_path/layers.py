"""A multilayer perceptron in NumPy, forward and backward, on reused arrays."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from rl_trainer.numpy_path.optimizers import FlatParameters, Floats

Array = np.ndarray[Any, Any]
#: The greatest number of batch sizes whose arrays a network keeps.
MOST_WORKSPACES = 8


class Linear(NamedTuple):
    """A layer's weights, bias, and the arrays for their gradients.

    Weights have torch's shape (outputs, inputs).
    """

    weight: Floats
    bias: Floats
    weight_gradient: Floats
    bias_gradient: Floats


class Workspace(NamedTuple):
    """Arrays for one batch size: the layers' outputs, and the loss's gradients by these outputs."""

    outputs: list[Floats]
    deltas: list[Floats]
    ones: Floats


class Activation:
    """Tanh or ReLU, in place. The derivative of both can be computed from their outputs."""

    def __init__(self, *, relu: bool) -> None:
        self.relu = relu
        #: One row of zeros, as wide as the widest layer so far. NumPy compares two arrays several
        #: times faster than an array with a number.
        self._zeros = np.zeros(0, np.float32)

    def apply(self, values: Floats, out: Floats | None = None) -> None:
        """Apply the activation in place, or write the result into `out`."""
        out = values if out is None else out
        if self.relu:
            np.maximum(values, self._zeros_of(values.shape[1]), out=out)
        else:
            np.tanh(values, out=out)

    def through(self, delta: Floats, activated: Floats) -> None:
        """Multiply a gradient by the activation's derivative.

        :param delta: the gradient by the activation's outputs, which is overwritten.
        :param activated: the activation's outputs, which may be overwritten.
        """
        if self.relu:
            delta *= activated > 0
        else:
            activated *= activated
            np.subtract(1, activated, out=activated)
            delta *= activated

    def _zeros_of(self, width: int) -> Floats:
        if len(self._zeros) < width:
            self._zeros = np.zeros(width, np.float32)
        return self._zeros[:width]


class Mlp:
    """A network of linear layers with one activation between them."""

    def __init__(self, layers: Sequence[Linear], activation: Activation) -> None:
        self.layers, self.activation = list(layers), activation
        self._workspaces: dict[int, Workspace] = {}

    def forward(self, inputs: Floats) -> Floats:
        """Run the network.

        :return: its outputs, in an array that the next call with as many rows overwrites.
        """
        outputs = self._workspace(len(inputs)).outputs
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            out = outputs[index]
            np.dot(inputs, layer.weight.T, out=out)
            out += layer.bias
            if index < last:
                self.activation.apply(out)
            inputs = out
        return inputs

    def backward(self, inputs: Floats, delta: Floats) -> None:
        """Write the gradients of the weights, after :meth:`forward` on the same inputs.

        The arrays of the forward pass are overwritten.

        :param delta: the loss's gradient by the network's outputs.
        """
        outputs, deltas, ones = self._workspace(len(inputs))
        for index in range(len(self.layers) - 1, -1, -1):
            layer, below = self.layers[index], outputs[index - 1] if index else inputs
            np.dot(delta.T, below, out=layer.weight_gradient)
            np.dot(ones, delta, out=layer.bias_gradient)
            if index:
                np.dot(delta, layer.weight, out=deltas[index - 1])
                delta = deltas[index - 1]
                self.activation.through(delta, below)

    def input_gradient(
        self, inputs: Floats, delta: Floats, rows: Array | slice, columns: slice
    ) -> Floats:
        """Compute the gradient by some columns of some rows of the inputs, after :meth:`forward`.

        The gradients of the weights do not change.

        :param delta: the loss's gradient by the outputs of these rows.
        """
        outputs = self._workspace(len(inputs)).outputs
        for index in range(len(self.layers) - 1, 0, -1):
            delta = delta @ self.layers[index].weight
            self.activation.through(delta, outputs[index - 1][rows])
        gradient: Floats = delta @ self.layers[0].weight[:, columns]
        return gradient

    def _workspace(self, rows: int) -> Workspace:
        if rows not in self._workspaces:
            if len(self._workspaces) >= MOST_WORKSPACES:
                # Final observations of episodes come in batches of any size.
                self._workspaces.clear()
            widths = [len(layer.bias) for layer in self.layers]
            self._workspaces[rows] = Workspace(
                [empty(rows, w) for w in widths],
                [empty(rows, w) for w in widths[:-1]],
                np.ones(rows, np.float32),
            )
        return self._workspaces[rows]


class FixedMlp:
    """A copy of a network, as it was at the last :meth:`renew`, for batches of a few rows.

    The weights are transposed, and the biases are the weights of an additional input of one. With
    few rows, :meth:`Mlp.forward` spends most of its time on the overhead of NumPy's calls. This
    class needs fewer calls.
    """

    def __init__(self, mlp: Mlp, rows: int) -> None:
        self._mlp = mlp
        self._weights = [empty(layer.weight.shape[1] + 1, len(layer.bias)) for layer in mlp.layers]
        self._inputs = [np.ones((rows, len(weight)), np.float32) for weight in self._weights]
        self._filled = [inputs[:, :-1] for inputs in self._inputs]
        self._outputs = [empty(rows, weight.shape[1]) for weight in self._weights]
        self.renew()

    def renew(self) -> None:
        """Copy the current weights of the network."""
        for weight, layer in zip(self._weights, self._mlp.layers, strict=True):
            weight[:-1], weight[-1] = layer.weight.T, layer.bias

    def forward(self, inputs: Floats) -> Floats:
        """Run the network. :return: its outputs, in an array that the next call overwrites."""
        self._filled[0][...] = inputs
        last = len(self._weights) - 1
        for index, out in enumerate(self._outputs):
            np.dot(self._inputs[index], self._weights[index], out=out)
            if index < last:
                self._mlp.activation.apply(out, self._filled[index + 1])
        return out


def activation_of(policy: Any) -> Activation:
    """Return the activation of SB3's policy."""
    return Activation(relu=policy.activation_fn is torch.nn.ReLU)


def linear_layers(modules: Iterable[torch.nn.Module], parameters: FlatParameters) -> list[Linear]:
    """Return the linear layers of a network.

    :param modules: torch's modules in order. Those that are not linear are the activation.
    """
    return [
        joined((module,), parameters) for module in modules if isinstance(module, torch.nn.Linear)
    ]


def joined(modules: Sequence[torch.nn.Linear], parameters: FlatParameters) -> Linear:
    """Join layers with the same inputs to one layer.

    Their weights must be neighbours in `parameters`, and so must their biases.
    """
    weight, weight_gradient = parameters.views(*(module.weight for module in modules))
    bias, bias_gradient = parameters.views(*(module.bias for module in modules))
    return Linear(weight, bias, weight_gradient, bias_gradient)


def empty(*shape: int) -> Floats:
    """Return a new float32 array without initial values."""
    array: np.ndarray[Any, np.dtype[np.float32]] = np.empty(shape, np.float32)
    return array
