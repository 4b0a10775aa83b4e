"""Rows of a replay buffer as a safetensors file: written from the buffer's own memory, and read
back into it.

The library would copy the rows several times on the way, and a buffer may be most of a machine's
memory. The bytes are the library's (https://github.com/huggingface/safetensors#format), so anything
that knows the format reads a chunk.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rl_lifecycle.storage.pieces import BLOCK, Reader

Array = np.ndarray[Any, Any]
#: Arrays, by column, whose rows follow one another: two where a buffer's end lies between.
Columns = Mapping[str, Sequence[Array]]
#: NumPy's names and the format's, in the order in which the library writes columns.
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
#: No chunk has more columns than a header of this size describes.
LONGEST_HEADER = 1 << 20


def encode(columns: Columns) -> tuple[memoryview, ...]:
    """Describe rows as a file's pieces: a header, and the arrays' own memory, which must not change
    before it is stored.
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
    """Read a chunk's rows into arrays, in place.

    :param columns: where its rows go. :param skipped: how many of its first rows go nowhere.
    :raises ValueError: if it is no chunk of such rows; what was read until then is in the arrays.
    """
    length = int.from_bytes(_read(reader, 8), "little")
    if length > LONGEST_HEADER:
        raise ValueError("it has no header")
    described = json.loads(_read(reader, length))
    if not isinstance(described, dict) or described.keys() != columns.keys():
        raise ValueError("it has other columns")
    for name in sorted(described, key=lambda name: _offsets(described[name])):
        parts = columns[name]
        if described[name] != _expected(parts, skipped, described[name]):
            raise ValueError(f"its column {name} is of another form")
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
    raise ValueError("its header is of another form")


def _bytes_of(array: Array) -> memoryview:
    """An array's own memory. :raises ValueError: if its rows do not lie one after another."""
    if not array.flags.c_contiguous:
        raise ValueError("the rows do not lie one after another")
    return array.reshape(-1).view(np.uint8).data


def _read(reader: Reader, size: int) -> bytes:
    data = bytearray(size)
    _fill(reader, memoryview(data))
    return bytes(data)


def _fill(reader: Reader, target: memoryview) -> None:
    while target:
        data = reader.read(min(BLOCK, len(target)))
        if not data:
            raise ValueError("it ends early")
        target[: len(data)] = data
        target = target[len(data) :]


def _skip(reader: Reader, size: int) -> None:
    while size:
        data = reader.read(min(BLOCK, size))
        if not data:
            raise ValueError("it ends early")
        size -= len(data)
