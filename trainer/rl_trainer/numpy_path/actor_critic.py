"""A policy's and a value's networks, forward and backward together."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch

from rl_trainer.numpy_path.layers import (
    MOST_WORKSPACES,
    Activation,
    Linear,
    Mlp,
    empty,
    joined,
    linear_layers,
)
from rl_trainer.numpy_path.optimizers import FlatParameters, Floats

#: With more rows the activations of both networks do not stay in the processor's nearest cache, and
#: those of one do.
PAIRED_ROWS = 192


class TwoMlps:
    """The networks one after another, of any widths and for any number of rows."""

    def __init__(self, policy: Mlp, value: Mlp) -> None:
        self.policy, self.value = policy, value

    def forward(self, inputs: Floats) -> tuple[Floats, Floats]:
        """Run both.

        :return: the policy's outputs, one row an output and one column an input row, and the
            values; arrays that the next call with as many rows may write to again.
        """
        return np.ascontiguousarray(self.policy.forward(inputs).T), self.value.forward(inputs)[:, 0]

    def backward(self, inputs: Floats, by_outputs: Floats, by_values: Floats) -> None:
        """Write the gradients of both networks' weights, after :meth:`forward` on the same inputs,
        whose arrays are used up.

        :param by_outputs: the loss's gradient with respect to the policy's outputs, as they were
            given.
        :param by_values: the same.
        """
        self.policy.backward(inputs, np.ascontiguousarray(by_outputs.T))
        self.value.backward(inputs, by_values[:, None])


class _Layer(NamedTuple):
    """A layer's activations or deltas of one batch size: (rows, both networks' units), and the same
    as (2, rows, units).
    """

    whole: Floats
    halves: Floats


class _Workspace(NamedTuple):
    layers: list[_Layer]
    deltas: list[_Layer]
    outputs: Floats
    by_outputs: Floats
    ones: Floats


class PairedMlps:
    """The networks side by side: where each layer of one is as wide as the other's, one call of
    NumPy does for both.

    Forward and backward are as with :class:`TwoMlps`.

    :param hidden: each layer of both as one, the policy's units first; the weights' shape is
        (both's units, inputs of one).
    :param bias: of both heads, the policy's first; and where its gradient goes.
    """

    def __init__(
        self,
        hidden: list[Linear],
        heads: tuple[Linear, Linear],
        bias: tuple[Floats, Floats],
        activation: Activation,
    ) -> None:
        self.hidden, self.heads, self.activation = hidden, heads, activation
        self._weights = [_by_network(layer.weight) for layer in hidden]
        #: BLAS multiplies with a transposed matrix so much slower that a copy pays.
        self._transposed = [
            np.ascontiguousarray(weight.transpose(0, 2, 1)) for weight in self._weights
        ]
        self._gradients = [_by_network(layer.weight_gradient) for layer in hidden]
        self._bias, self._bias_gradient = bias
        #: The heads' weights, and their gradients, as one layer on the units of both: each is a
        #: copy of the parameters, and zero where a head has nothing to do with the other network's
        #: units.
        self._head, self._head_gradient = (
            np.zeros((len(bias[0]), len(hidden[-1].bias)), np.float32) for _ in range(2)
        )
        self._workspaces: dict[int, _Workspace] = {}

    def forward(self, inputs: Floats) -> tuple[Floats, Floats]:
        """Run both networks."""
        layers, _, outputs, _, _ = self._workspace(len(inputs))
        for index, layer in enumerate(layers):
            if index:
                np.copyto(self._transposed[index], self._weights[index].transpose(0, 2, 1))
                np.matmul(layers[index - 1].halves, self._transposed[index], out=layer.halves)
            else:
                np.dot(inputs, self.hidden[0].weight.T, out=layer.whole)
            np.add(layer.whole, self.hidden[index].bias, out=layer.whole)
            self.activation.apply(layer.whole)
        for mine, head in zip(self._of_heads(self._head), self.heads, strict=True):
            mine[...] = head.weight
        np.dot(self._head, layers[-1].whole.T, out=outputs)
        outputs += self._bias[:, None]
        return outputs[:-1], outputs[-1]

    def backward(self, inputs: Floats, by_outputs: Floats, by_values: Floats) -> None:
        """Write the gradients of both networks."""
        layers, deltas, _, delta, ones = self._workspace(len(inputs))
        delta[:-1], delta[-1] = by_outputs, by_values
        np.dot(delta, layers[-1].whole, out=self._head_gradient)
        for mine, head in zip(self._of_heads(self._head_gradient), self.heads, strict=True):
            head.weight_gradient[...] = mine
        np.add.reduce(delta, axis=1, out=self._bias_gradient)
        np.dot(delta.T, self._head, out=deltas[-1].whole)
        for index in range(len(layers) - 1, -1, -1):
            whole, halves = deltas[index]
            self.activation.through(whole, layers[index].whole)
            np.dot(ones, whole, out=self.hidden[index].bias_gradient)
            if index:
                np.matmul(
                    halves.transpose(0, 2, 1), layers[index - 1].halves, out=self._gradients[index]
                )
                np.matmul(halves, self._weights[index], out=deltas[index - 1].halves)
            else:
                np.dot(whole.T, inputs, out=self.hidden[0].weight_gradient)

    def _of_heads(self, both: Floats) -> tuple[Floats, Floats]:
        """What belongs to the policy's head, and to the value's."""
        units = both.shape[1] // 2
        return both[:-1, :units], both[-1:, units:]

    def _workspace(self, rows: int) -> _Workspace:
        if rows not in self._workspaces:
            if len(self._workspaces) >= MOST_WORKSPACES:
                self._workspaces.clear()
            widths, outputs = [len(layer.bias) for layer in self.hidden], len(self._bias)
            self._workspaces[rows] = _Workspace(
                [_layer(rows, width) for width in widths],
                [_layer(rows, width) for width in widths],
                empty(outputs, rows),
                empty(outputs, rows),
                np.ones(rows, np.float32),
            )
        return self._workspaces[rows]


def two_mlps(policy: Any, parameters: FlatParameters, activation: Activation) -> TwoMlps:
    """The networks of SB3's `ActorCriticPolicy`."""
    extractor = policy.mlp_extractor
    return TwoMlps(
        Mlp(linear_layers((*extractor.policy_net, policy.action_net), parameters), activation),
        Mlp(linear_layers((*extractor.value_net, policy.value_net), parameters), activation),
    )


def paired_mlps(
    policy: Any, parameters: FlatParameters, activation: Activation
) -> PairedMlps | None:
    """The same networks side by side; None where a layer differs in its width, or there is none.

    :param parameters: the policy's, in the order of :func:`in_pairs`.
    """
    hidden = [joined(pair, parameters) for pair in _pairs(policy)]
    heads = (policy.action_net, policy.value_net)
    policy_head, value_head = linear_layers(heads, parameters)
    bias = parameters.views(*(head.bias for head in heads))
    return PairedMlps(hidden, (policy_head, value_head), bias, activation) if hidden else None


def in_pairs(policy: Any) -> list[torch.Tensor]:
    """A policy's parameters, in an order in which each layer of the policy's network is followed by
    the value's, if they pair.
    """
    heads = (policy.action_net, policy.value_net)
    first = [
        *(
            parameter
            for pair in _pairs(policy)
            for parameter in (*(one.weight for one in pair), *(one.bias for one in pair))
        ),
        *(head.weight for head in heads),
        *(head.bias for head in heads),
    ]
    seen = {id(parameter) for parameter in first}
    return [*first, *(parameter for parameter in policy.parameters() if id(parameter) not in seen)]


def _pairs(policy: Any) -> list[tuple[torch.nn.Linear, torch.nn.Linear]]:
    """The hidden layers of both networks; none where one differs in its width."""
    chains = [
        _linear(chain)
        for chain in (policy.mlp_extractor.policy_net, policy.mlp_extractor.value_net)
    ]
    widths = [[layer.out_features for layer in chain] for chain in chains]
    return list(zip(*chains, strict=True)) if widths[0] == widths[1] else []


def _linear(modules: Iterable[torch.nn.Module]) -> list[torch.nn.Linear]:
    return [module for module in modules if isinstance(module, torch.nn.Linear)]


def _by_network(weight: Floats) -> Floats:
    """(both's units, inputs) as (2, units, inputs)."""
    return weight.reshape(2, -1, weight.shape[1])


def _layer(rows: int, width: int) -> _Layer:
    whole = empty(rows, width)
    return _Layer(whole, whole.reshape(rows, 2, width // 2).transpose(1, 0, 2))
