"""A chain of linear layers with one activation between them, forward and backward, on arrays that are used again."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from rl_trainer.numpy_path.optimizers import FlatParameters, Floats

Array = np.ndarray[Any, Any]
MOST_WORKSPACES = 8


class Linear(NamedTuple):
    """One layer: weights and bias, and where their gradients go. Shapes as in torch: (outputs, inputs)."""

    weight: Floats
    bias: Floats
    weight_gradient: Floats
    bias_gradient: Floats


class Workspace(NamedTuple):
    """Arrays for one batch size: a layer's outputs, and the gradients with respect to them."""

    outputs: list[Floats]
    deltas: list[Floats]
    ones: Floats
    #: One row, as wide as the widest layer: NumPy compares arrays several times as fast as an array with a number.
    zeros: Floats


class Mlp:
    """The network of a policy or a value."""

    def __init__(self, layers: Sequence[Linear], *, relu: bool) -> None:
        self.layers, self.relu = list(layers), relu
        self._workspaces: dict[int, Workspace] = {}

    def forward(self, inputs: Floats) -> Floats:
        """Run the network. :return: its outputs, in an array that the next call with as many rows writes to again."""
        outputs, _, _, zeros = self._workspace(len(inputs))
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            out = outputs[index]
            np.dot(inputs, layer.weight.T, out=out)
            out += layer.bias
            if index < last:
                self._activate(out, zeros)
            inputs = out
        return inputs

    def backward(self, inputs: Floats, delta: Floats) -> None:
        """Write the gradients of the weights, after :meth:`forward` on the same inputs.

        :param delta: the loss's gradient with respect to the outputs; the forward pass's arrays are used up.
        """
        outputs, deltas, ones, _ = self._workspace(len(inputs))
        for index in range(len(self.layers) - 1, -1, -1):
            layer, below = self.layers[index], outputs[index - 1] if index else inputs
            np.dot(delta.T, below, out=layer.weight_gradient)
            np.dot(ones, delta, out=layer.bias_gradient)
            if index:
                np.dot(delta, layer.weight, out=deltas[index - 1])
                delta = deltas[index - 1]
                self._through_activation(delta, below)

    def slopes(self, inputs: Floats, delta: Floats, rows: Array | slice, columns: slice) -> Floats:
        """The gradient with respect to some columns of some rows of the inputs, after :meth:`forward`; weights' ones are kept.

        :param delta: the loss's gradient with respect to the outputs of these rows.
        """
        outputs = self._workspace(len(inputs)).outputs
        for index in range(len(self.layers) - 1, 0, -1):
            delta = delta @ self.layers[index].weight
            self._through_activation(delta, outputs[index - 1][rows])
        slopes: Floats = delta @ self.layers[0].weight[:, columns]
        return slopes

    def _activate(self, values: Floats, zeros: Floats) -> None:
        if self.relu:
            np.maximum(values, zeros[:values.shape[1]], out=values)
        else:
            np.tanh(values, out=values)

    def _through_activation(self, delta: Floats, activated: Floats) -> None:
        """Multiply by the activation's slope, which both activations give from their own output."""
        if self.relu:
            delta *= activated > 0
        else:
            activated *= activated
            np.subtract(1, activated, out=activated)
            delta *= activated

    def _workspace(self, rows: int) -> Workspace:
        if rows not in self._workspaces:
            if len(self._workspaces) >= MOST_WORKSPACES:
                self._workspaces.clear()  # ends of episodes come in batches of any size
            widths = [len(layer.bias) for layer in self.layers]
            self._workspaces[rows] = Workspace([_empty(rows, w) for w in widths], [_empty(rows, w) for w in widths[:-1]],
                                               np.ones(rows, np.float32), np.zeros(max(widths), np.float32))
        return self._workspaces[rows]


def linear_layers(modules: Iterable[torch.nn.Module], parameters: FlatParameters) -> list[Linear]:
    """The layers of a network. :param modules: torch's in order; those that are not linear are the activation."""
    return [joined((module,), parameters) for module in modules if isinstance(module, torch.nn.Linear)]


def joined(modules: Sequence[torch.nn.Linear], parameters: FlatParameters) -> Linear:
    """Layers with the same inputs as one; their weights must lie one after another, and their biases, too."""
    weight, weight_gradient = parameters.views(*(module.weight for module in modules))
    bias, bias_gradient = parameters.views(*(module.bias for module in modules))
    return Linear(weight, bias, weight_gradient, bias_gradient)


def _empty(rows: int, width: int) -> Floats:
    array: np.ndarray[Any, np.dtype[np.float32]] = np.empty((rows, width), np.float32)
    return array
