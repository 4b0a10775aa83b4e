"""Write rows of a replay buffer as a safetensors file, and read them back, without copying them.

The safetensors library would copy the rows several times, and a buffer may fill most of the
memory. The bytes are the same as the library's, so any reader of the format can read a chunk.
Source: https://github.com/huggingface/safetensors#format
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rl_lifecycle.storage.pieces import BLOCK, Reader

Array = np.ndarray[Any, Any]
#: The arrays of each column, in the order of their rows. There are two arrays if the rows wrap
#: around the end of the buffer.
Columns = Mapping[str, Sequence[Array]]
#: NumPy's type names and the format's, in the order in which the library writes columns.
TYPES = {
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "float32": "F32",
    "uint32": "U32",
    "int32": "I32",
    "float16": "F16",
    "uint16": "U16",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
ORDER = list(TYPES)
#: Bytes of the longest header that is read. No chunk needs a longer one for its columns.
LONGEST_HEADER = 1 << 20


def encode(columns: Columns) -> tuple[memoryview, ...]:
    """Describe rows as the pieces of a file: a header, then the memory of the arrays.

    The arrays must not change until the file is stored.
    """
    header: dict[str, Any] = {}
    pieces: list[memoryview] = []
    end = 0
    for name, parts in sorted(
        columns.items(), key=lambda item: (ORDER.index(item[1][0].dtype.name), item[0])
    ):
        start, end = end, end + sum(part.nbytes for part in parts)
        shape = [sum(len(part) for part in parts), *parts[0].shape[1:]]
        header[name] = {
            "dtype": TYPES[parts[0].dtype.name],
            "shape": shape,
            "data_offsets": [start, end],
        }
        pieces += [_bytes_of(part) for part in parts]
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return memoryview(len(text).to_bytes(8, "little") + text), *pieces


def decode(reader: Reader, columns: Columns, skipped: int = 0) -> None:
    """Read the rows of a chunk into existing arrays.

    :param columns: the arrays that the rows are written to.
    :param skipped: how many rows at the start of the chunk are not wanted.
    :raises ValueError: if the file is not a chunk with such rows. The arrays then hold the rows
        that were read before the error.
    """
    length = int.from_bytes(_read(reader, 8), "little")
    if length > LONGEST_HEADER:
        raise ValueError("its header is too long")
    described = json.loads(_read(reader, length))
    if not isinstance(described, dict) or described.keys() != columns.keys():
        raise ValueError("it has different columns")
    for name in sorted(described, key=lambda name: _offsets(described[name])):
        parts = columns[name]
        if described[name] != _expected(parts, skipped, described[name]):
            raise ValueError(f"its column {name} has another type, shape or place")
        _skip(
            reader, skipped * parts[0].itemsize * int(np.prod(parts[0].shape[1:], dtype=np.int64))
        )
        for part in parts:
            _fill(reader, _bytes_of(part))


def _expected(parts: Sequence[Array], skipped: int, described: Any) -> dict[str, Any]:
    return {
        "dtype": TYPES[parts[0].dtype.name],
        "shape": [skipped + sum(len(part) for part in parts), *parts[0].shape[1:]],
        "data_offsets": described["data_offsets"],
    }


def _offsets(described: Any) -> tuple[int, int]:
    match described:
        case {"data_offsets": [int(start), int(end)]}:
            return start, end
    raise ValueError("its header names no data_offsets")


def _bytes_of(array: Array) -> memoryview:
    """Return the memory of an array.

    :raises ValueError: if the array is not contiguous.
    """
    if not array.flags.c_contiguous:
        raise ValueError("the rows of the array are not contiguous in memory")
    return array.reshape(-1).view(np.uint8).data


def _read(reader: Reader, size: int) -> bytes:
    data = bytearray(size)
    _fill(reader, memoryview(data))
    return bytes(data)


def _fill(reader: Reader, target: memoryview) -> None:
    while target:
        data = reader.read(min(BLOCK, len(target)))
        if not data:
            raise ValueError("the file ends too early")
        target[: len(data)] = data
        target = target[len(data) :]


def _skip(reader: Reader, size: int) -> None:
    while size:
        data = reader.read(min(BLOCK, size))
        if not data:
            raise ValueError("the file ends too early")
        size -= len(data)
