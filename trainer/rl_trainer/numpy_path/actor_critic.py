"""The policy network and the value network of PPO and A2C, forward and backward together."""

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

#: The greatest batch size for paired networks. With more rows the activations of both networks do
#: not fit into the processor's nearest cache, but the activations of one network do.
PAIRED_ROWS = 192


class TwoMlps:
    """Runs the two networks one after another, for any widths and any number of rows."""

    def __init__(self, policy: Mlp, value: Mlp) -> None:
        self.policy, self.value = policy, value

    def forward(self, inputs: Floats) -> tuple[Floats, Floats]:
        """Run both networks.

        :return: the policy's outputs, of shape (outputs, rows), and the values, of shape (rows,).
            The next call with as many rows may overwrite both arrays.
        """
        return np.ascontiguousarray(self.policy.forward(inputs).T), self.value.forward(inputs)[:, 0]

    def backward(self, inputs: Floats, output_gradient: Floats, value_gradient: Floats) -> None:
        """Write the gradients of both networks' weights, after :meth:`forward` on the same inputs.

        The arrays of the forward pass are overwritten.

        :param output_gradient: the loss's gradient by the policy's outputs, of shape (outputs,
            rows).
        :param value_gradient: the loss's gradient by the values, of shape (rows,).
        """
        self.policy.backward(inputs, np.ascontiguousarray(output_gradient.T))
        self.value.backward(inputs, value_gradient[:, None])


class _Layer(NamedTuple):
    """The activations or gradients of one layer, for one batch size.

    `whole` has the shape (rows, units of both networks); `halves` is a view of it with the shape
    (2, rows, units).
    """

    whole: Floats
    halves: Floats


class _Workspace(NamedTuple):
    """Arrays for one batch size, which each pass overwrites."""

    layers: list[_Layer]
    deltas: list[_Layer]
    outputs: Floats
    output_gradient: Floats
    ones: Floats


class PairedMlps:
    """Runs the two networks together: one call of NumPy computes a layer of both.

    This needs networks whose layers have equal widths. Forward and backward are those of
    :class:`TwoMlps`.

    :param hidden: the hidden layers, each with the units of both networks, the policy's first. The
        weights have the shape (units of both networks, inputs of one network).
    :param heads: the last layers of the policy and of the value.
    :param bias: the bias of both heads, the policy's first, and the array for its gradient.
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
        #: Copies, because BLAS multiplies by a transposed view more slowly, copying included.
        self._transposed = [
            np.ascontiguousarray(weight.transpose(0, 2, 1)) for weight in self._weights
        ]
        self._gradients = [_by_network(layer.weight_gradient) for layer in hidden]
        self._bias, self._bias_gradient = bias
        #: The weights of both heads as one layer on the units of both networks, and the gradient.
        #: Both are copies. They are zero where a head meets the units of the other network.
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

        for part, head in zip(self._of_heads(self._head), self.heads, strict=True):
            part[...] = head.weight
        np.dot(self._head, layers[-1].whole.T, out=outputs)
        outputs += self._bias[:, None]
        return outputs[:-1], outputs[-1]

    def backward(self, inputs: Floats, output_gradient: Floats, value_gradient: Floats) -> None:
        """Write the gradients of both networks."""
        layers, deltas, _, delta, ones = self._workspace(len(inputs))
        delta[:-1], delta[-1] = output_gradient, value_gradient
        np.dot(delta, layers[-1].whole, out=self._head_gradient)
        for part, head in zip(self._of_heads(self._head_gradient), self.heads, strict=True):
            head.weight_gradient[...] = part
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
        """Return the parts of the policy's head and of the value's head."""
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
    """Build the networks of SB3's `ActorCriticPolicy`."""
    extractor = policy.mlp_extractor
    return TwoMlps(
        Mlp(linear_layers((*extractor.policy_net, policy.action_net), parameters), activation),
        Mlp(linear_layers((*extractor.value_net, policy.value_net), parameters), activation),
    )


def paired_mlps(
    policy: Any, parameters: FlatParameters, activation: Activation
) -> PairedMlps | None:
    """Build the networks of SB3's `ActorCriticPolicy` as paired networks.

    :param parameters: the policy's parameters, in the order of :func:`in_pairs`.
    :return: None if a layer differs in width, or there is no hidden layer.
    """
    hidden = [joined(pair, parameters) for pair in _pairs(policy)]
    heads = (policy.action_net, policy.value_net)
    policy_head, value_head = linear_layers(heads, parameters)
    bias = parameters.views(*(head.bias for head in heads))
    return PairedMlps(hidden, (policy_head, value_head), bias, activation) if hidden else None


def in_pairs(policy: Any) -> list[torch.Tensor]:
    """Order a policy's parameters so that layers of equal width in both networks are neighbours."""
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
    """Return the hidden layers of both networks in pairs; an empty list if the widths differ."""
    chains = [
        _linear(chain)
        for chain in (policy.mlp_extractor.policy_net, policy.mlp_extractor.value_net)
    ]
    widths = [[layer.out_features for layer in chain] for chain in chains]
    return list(zip(*chains, strict=True)) if widths[0] == widths[1] else []


def _linear(modules: Iterable[torch.nn.Module]) -> list[torch.nn.Linear]:
    return [module for module in modules if isinstance(module, torch.nn.Linear)]


def _by_network(weight: Floats) -> Floats:
    """View weights of shape (units of both networks, inputs) as (2, units, inputs)."""
    return weight.reshape(2, -1, weight.shape[1])


def _layer(rows: int, width: int) -> _Layer:
    whole = empty(rows, width)
    return _Layer(whole, whole.reshape(rows, 2, width // 2).transpose(1, 0, 2))
