"""A chain of linear layers with one activation between them, forward and backward, on arrays that
are used again.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from rl_trainer.numpy_path.optimizers import FlatParameters, Floats

Array = np.ndarray[Any, Any]
MOST_WORKSPACES = 8


class Linear(NamedTuple):
    """One layer: weights and bias, and where their gradients go. Shapes as in torch: (outputs,
    inputs).
    """

    weight: Floats
    bias: Floats
    weight_gradient: Floats
    bias_gradient: Floats


class Workspace(NamedTuple):
    """Arrays for one batch size: a layer's outputs, and the gradients with respect to them."""

    outputs: list[Floats]
    deltas: list[Floats]
    ones: Floats


class Activation:
    """Tanh or ReLU, in place; the slope of both follows from their own output."""

    def __init__(self, *, relu: bool) -> None:
        self.relu = relu
        #: One row, as wide as the widest layer so far: NumPy compares arrays several times as fast
        #: as an array with a number.
        self._zeros = np.zeros(0, np.float32)

    def apply(self, values: Floats, out: Floats | None = None) -> None:
        """Put the activation in the values' place, or into another array."""
        out = values if out is None else out
        if self.relu:
            np.maximum(values, self._zeros_of(values.shape[1]), out=out)
        else:
            np.tanh(values, out=out)

    def through(self, delta: Floats, activated: Floats) -> None:
        """Multiply by the activation's slope.
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
    """The network of a policy or a value."""

    def __init__(self, layers: Sequence[Linear], activation: Activation) -> None:
        self.layers, self.activation = list(layers), activation
        self._workspaces: dict[int, Workspace] = {}

    def forward(self, inputs: Floats) -> Floats:
        """Run the network.
        :return: its outputs, in an array that the next call with as many rows writes to again.
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

        :param delta: the loss's gradient with respect to the outputs; the forward pass's arrays are
            used up.
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

    def slopes(self, inputs: Floats, delta: Floats, rows: Array | slice, columns: slice) -> Floats:
        """The gradient with respect to some columns of some rows of the inputs, after
        :meth:`forward`; weights' ones are kept.

        :param delta: the loss's gradient with respect to the outputs of these rows.
        """
        outputs = self._workspace(len(inputs)).outputs
        for index in range(len(self.layers) - 1, 0, -1):
            delta = delta @ self.layers[index].weight
            self.activation.through(delta, outputs[index - 1][rows])
        slopes: Floats = delta @ self.layers[0].weight[:, columns]
        return slopes

    def _workspace(self, rows: int) -> Workspace:
        if rows not in self._workspaces:
            if len(self._workspaces) >= MOST_WORKSPACES:
                self._workspaces.clear()  # ends of episodes come in batches of any size
            widths = [len(layer.bias) for layer in self.layers]
            self._workspaces[rows] = Workspace(
                [empty(rows, w) for w in widths],
                [empty(rows, w) for w in widths[:-1]],
                np.ones(rows, np.float32),
            )
        return self._workspaces[rows]


class FixedMlp:
    """A network as it was at the last :meth:`renew`, for batches of a few rows: transposed, and
    with the biases as the weights of an input that is one.

    For few rows most of :meth:`Mlp.forward` is what NumPy's calls cost beside what they compute,
    and here there are fewer.
    """

    def __init__(self, mlp: Mlp, rows: int) -> None:
        self._mlp = mlp
        self._weights = [empty(layer.weight.shape[1] + 1, len(layer.bias)) for layer in mlp.layers]
        self._inputs = [np.ones((rows, len(weight)), np.float32) for weight in self._weights]
        self._filled = [inputs[:, :-1] for inputs in self._inputs]
        self._outputs = [empty(rows, weight.shape[1]) for weight in self._weights]
        self.renew()

    def renew(self) -> None:
        """Take the weights as they are now."""
        for weight, layer in zip(self._weights, self._mlp.layers, strict=True):
            weight[:-1], weight[-1] = layer.weight.T, layer.bias

    def forward(self, inputs: Floats) -> Floats:
        """Run the network. :return: its outputs, in an array that the next call writes to again."""
        self._filled[0][...] = inputs
        last = len(self._weights) - 1
        for index, out in enumerate(self._outputs):
            np.dot(self._inputs[index], self._weights[index], out=out)
            if index < last:
                self._mlp.activation.apply(out, self._filled[index + 1])
        return out


def activation_of(policy: Any) -> Activation:
    """The activation of SB3's policy."""
    return Activation(relu=policy.activation_fn is torch.nn.ReLU)


def linear_layers(modules: Iterable[torch.nn.Module], parameters: FlatParameters) -> list[Linear]:
    """The layers of a network.
    :param modules: torch's in order; those that are not linear are the activation.
    """
    return [
        joined((module,), parameters) for module in modules if isinstance(module, torch.nn.Linear)
    ]


def joined(modules: Sequence[torch.nn.Linear], parameters: FlatParameters) -> Linear:
    """Layers with the same inputs as one; their weights must lie one after another, and their
    biases, too.
    """
    weight, weight_gradient = parameters.views(*(module.weight for module in modules))
    bias, bias_gradient = parameters.views(*(module.bias for module in modules))
    return Linear(weight, bias, weight_gradient, bias_gradient)


def empty(*shape: int) -> Floats:
    """An array to be written to."""
    array: np.ndarray[Any, np.dtype[np.float32]] = np.empty(shape, np.float32)
    return array
