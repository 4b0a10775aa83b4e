"""Find what an ONNX file refers to, without running it and without the `onnx` package.

onnxruntime opens a tensor's external file and runs every operator that it knows. So this module
looks for what the contract forbids in the bytes first. Protobuf's wire format is simple enough for
this.

Sources: https://protobuf.dev/programming-guides/encoding/ and
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (the field numbers).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

STANDARD_DOMAINS = frozenset({"", "ai.onnx"})


class NotProtobufError(ValueError):
    """The bytes are not in protobuf's wire format."""


@dataclass
class OnnxContents:
    """The facts about a file that decide whether it may be loaded."""

    domains: set[str] = field(default_factory=set)
    function_domains: set[str] = field(default_factory=set)
    n_nodes: int = 0
    external_data: bool = False

    @property
    def custom_domains(self) -> list[str]:
        """Domains of operators that are neither standard nor defined in the file."""
        return sorted(self.domains - STANDARD_DOMAINS - self.function_domains)


#: For each message: its field numbers, and the message in each field. Other fields do not matter.
_SCHEMA: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor",
        6: "Graph",
        10: "Tensor",
        11: "Graph",
        22: "SparseTensor",
        23: "SparseTensor",
    },
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
_NODE_DOMAIN, _FUNCTION_DOMAIN, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 7, 10, 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def scan(data: bytes) -> OnnxContents:
    """List the operator domains and the external references of an ONNX file.

    :raises NotProtobufError: if the bytes cannot be an ONNX file.
    """
    contents = OnnxContents()
    _scan_message(memoryview(data), "Model", contents, depth=0)
    if not contents.n_nodes:
        raise NotProtobufError("it holds no graph")
    return contents


def _scan_message(data: memoryview, message: str, contents: OnnxContents, depth: int) -> None:
    if depth > 50:
        raise NotProtobufError("its messages are nested more than 50 deep")

    contents.n_nodes += message == "Node"
    domain = ""
    for number, value in _fields(data):
        if isinstance(value, memoryview):
            if part := _SCHEMA[message].get(number):
                _scan_message(value, part, contents, depth + 1)
            elif (message, number) in (
                ("Node", _NODE_DOMAIN),
                ("Function", _FUNCTION_DOMAIN),
            ):
                domain = bytes(value).decode(errors="replace")
            contents.external_data |= message == "Tensor" and number == _TENSOR_EXTERNAL
        elif message == "Tensor" and number == _TENSOR_LOCATION:
            contents.external_data |= value != 0

    if message == "Node":
        contents.domains.add(domain)
    elif message == "Function":
        contents.function_domains.add(domain)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (field number, value) for each field of a message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == _BYTES:
            size, at = _varint(data, at)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise NotProtobufError(f"wire type {wire} does not exist")
        if number == 0 or at + size > len(data):
            raise NotProtobufError("it ends in the middle of a field")
        yield number, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise NotProtobufError("it ends in the middle of a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise NotProtobufError("a number is too long")
