"""The state of a policy between two steps, as one row of numbers: stacked frames and LSTM states.

The contract has one input `state_in` and one output `state_out`. Every episode starts with a state
of zeros, as in SB3's VecFrameStack and in sb3-contrib's recurrent policies.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecFrameStack

from rl_lifecycle.evaluation.policies import STATE_IN, STATE_OUT
from rl_trainer.errors import BadInputError
from rl_trainer.onnx_export.graph import Graph


@dataclass(frozen=True)
class FrameStack:
    """Describes frames that are stacked on an axis of the observation.

    :param n: number of frames.
    :param axis: axis of one frame, without the batch dimension.
    :param shape: shape of one frame.
    """

    n: int
    axis: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, wrapper: VecFrameStack) -> "FrameStack":
        """Read the stacking from SB3's wrapper.

        :raises BadInputError: if the observations are dictionaries, which have a stack per key.
        """
        stacked = wrapper.stacked_obs
        if isinstance(stacked.stack_dimension, dict):
            raise BadInputError(
                "hyperparameters.frame_stack: stacked dictionaries cannot be exported to ONNX; "
                "remove frame_stack"
            )
        shape = wrapper.venv.observation_space.shape or ()
        return cls(stacked.n_stack, 0 if stacked.channels_first else len(shape) - 1, shape)

    @property
    def older_shape(self) -> tuple[int, ...]:
        """The shape of the remembered frames: all frames except the newest."""
        shape = list(self.shape)
        shape[self.axis] *= self.n - 1
        return tuple(shape)

    @property
    def width(self) -> int:
        """The number of values in the remembered frames."""
        return int(np.prod(self.older_shape))


class PolicyMemory:
    """The state of a policy in a graph.

    The constructor declares `state_in` and splits it into parts. `declare_output` joins the new
    parts to `state_out`.
    """

    def __init__(self, graph: Graph, stack: FrameStack | None, lstm: torch.nn.LSTM | None) -> None:
        self.graph, self.stack, self.lstm = graph, stack, lstm
        widths = [stack.width] if stack else []
        if lstm is not None:
            widths += [lstm.num_layers * lstm.hidden_size] * 2

        self.width = sum(widths)
        self._parts: list[str] = []
        self._new: dict[int, str] = {}
        if widths:
            whole = graph.input(STATE_IN, "float32", (self.width,))
            self._parts = graph.nodes(
                "Split", whole, graph.constant(widths, "int64"), n_outputs=len(widths), axis=1
            )

    def add_frames(self, newest: str) -> str:
        """Append the newest frame to the older ones. All except the oldest become the new state.

        :return: the stacked frames; `newest` if frames are not stacked.
        """
        if self.stack is None:
            return newest

        axis, size = self.stack.axis + 1, self.stack.shape[self.stack.axis]
        older = self.graph.reshape(self._parts[0], self.stack.older_shape)
        stacked = self.graph.node("Concat", older, newest, axis=axis)
        bounds = [
            self.graph.constant([value], "int64") for value in (size, self.stack.n * size, axis)
        ]
        self._new[0] = self.graph.reshape(
            self.graph.node("Slice", stacked, *bounds), (self.stack.width,)
        )
        return stacked

    def add_lstm(self, features: str) -> str:
        """Run the LSTM for one step, layer by layer.

        :return: the outputs of the last layer; `features` if there is no LSTM.
        """
        if self.lstm is None:
            return features

        first, layers = len(self._parts) - 2, self.lstm.num_layers
        hidden = self.graph.nodes("Split", self._parts[first], n_outputs=layers, axis=1)
        cells = self.graph.nodes("Split", self._parts[first + 1], n_outputs=layers, axis=1)
        new_hidden, new_cells = [], []
        for layer in range(layers):
            features, cell = self._layer(self.lstm, layer, features, hidden[layer], cells[layer])
            new_hidden.append(features)
            new_cells.append(cell)
        self._new[first] = self.graph.node("Concat", *new_hidden, axis=1)
        self._new[first + 1] = self.graph.node("Concat", *new_cells, axis=1)
        return features

    def declare_output(self) -> bool:
        """Join the parts of the new state. :return: whether the policy has a state."""
        if not self._parts:
            return False
        whole = self.graph.node(
            "Concat", *(self._new[index] for index in range(len(self._parts))), axis=1
        )
        self.graph.output(whole, STATE_OUT, "float32", (self.width,))
        return True

    def _layer(
        self, lstm: torch.nn.LSTM, layer: int, features: str, hidden: str, cell: str
    ) -> tuple[str, str]:
        """Add one ONNX LSTM node for one step.

        Sequence and direction are axes of size 1. The gates are in ONNX's order: i, o, f, c.
        """
        weights = [
            _gates(lstm, f"weight_ih_l{layer}"),
            _gates(lstm, f"weight_hh_l{layer}"),
            np.concatenate([_gates(lstm, f"bias_ih_l{layer}"), _gates(lstm, f"bias_hh_l{layer}")]),
        ]
        constants = [self.graph.constant(array[None]) for array in weights]
        inputs = [self._with_axis(value) for value in (features, hidden, cell)]
        _, new_hidden, new_cell = self.graph.nodes(
            "LSTM",
            inputs[0],
            *constants,
            "",
            inputs[1],
            inputs[2],
            n_outputs=3,
            hidden_size=lstm.hidden_size,
        )
        return self._without_axis(new_hidden), self._without_axis(new_cell)

    def _with_axis(self, value: str) -> str:
        return self.graph.node("Unsqueeze", value, self.graph.constant([0], "int64"))

    def _without_axis(self, value: str) -> str:
        return self.graph.node("Squeeze", value, self.graph.constant([0], "int64"))


def _gates(lstm: torch.nn.LSTM, name: str) -> "np.ndarray[Any, Any]":
    """Return weights in ONNX's order of the gates: i, o, f, c. torch's order is i, f, g, o."""
    inputs, forget, cell, output = np.split(getattr(lstm, name).detach().cpu().numpy(), 4)
    return np.concatenate([inputs, output, forget, cell])
