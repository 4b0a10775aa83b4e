"""A small writer of ONNX graphs. Values have string names, and constants are NumPy arrays."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rl_lifecycle.evaluation.policies import METADATA_KEY, OPSET

#: The oldest file format that supports opset 17, so that old runtimes can read the file.
IR_VERSION = 8
#: NumPy's types → ONNX's.
TYPES = {
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "uint16": TensorProto.UINT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}


class Graph:
    """Collects the nodes of a graph. Methods that add a node return the name of its output."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._count = 0

    def input(self, name: str, dtype: str, shape: tuple[int, ...]) -> str:
        """Declare an input. A free batch dimension is put before `shape`."""
        self._inputs.append(helper.make_tensor_value_info(name, TYPES[dtype], ["batch", *shape]))
        return name

    def output(self, value: str, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        """Declare a value as an output of the graph. A batch dimension is put before `shape`."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, TYPES[dtype], ["batch", *shape]))

    def constant(self, value: Any, dtype: str = "float32") -> str:
        """Add a constant array."""
        name = self._fresh("c")
        self._constants.append(
            numpy_helper.from_array(np.ascontiguousarray(np.asarray(value, dtype)), name)
        )
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output."""
        return self.nodes(operator, *inputs, n_outputs=1, **attributes)[0]

    def nodes(self, operator: str, *inputs: str, n_outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs."""
        outputs = [self._fresh("v") for _ in range(n_outputs)]
        self._nodes.append(helper.make_node(operator, list(inputs), outputs, **attributes))
        return outputs

    def cast(self, value: str, dtype: str) -> str:
        """Change a value's type."""
        return self.node("Cast", value, to=TYPES[dtype])

    def reshape(self, value: str, shape: tuple[int, ...]) -> str:
        """Change a value's shape. The batch dimension stays."""
        return self.node("Reshape", value, self.constant([0, *shape], "int64"))

    def clip(self, value: str, low: Any, high: Any, dtype: str = "float32") -> str:
        """Clip to bounds that may differ by element. ONNX's own Clip takes one pair of numbers."""
        return self.node(
            "Min", self.node("Max", value, self.constant(low, dtype)), self.constant(high, dtype)
        )

    def to_bytes(self, metadata: bytes) -> bytes:
        """Return the bytes of the ONNX file.

        :param metadata: JSON for :data:`rl_lifecycle.evaluation.policies.METADATA_KEY`.
        """
        graph = helper.make_graph(
            self._nodes, "policy", self._inputs, self._outputs, self._constants
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="nightshift",
        )
        entry = model.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, metadata.decode()
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString(deterministic=True))

    def _fresh(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count}"
