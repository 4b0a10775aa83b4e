"""The digest of a policy: SHA-256 over its parameters and its normalisation statistics."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

#: Prefixes of array names.
POLICY = "policy/"
NORMALISATION = "normalisation/"


def digest_arrays(arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """Name arrays by their contents: names, types, shapes and bytes, in the order of the names.

    >>> digest_arrays({"a": np.zeros(2), "b": np.ones(1)}) == digest_arrays({"b": np.ones(1), "a": np.zeros(2)})
    True
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}\x1f{array.dtype.str}\x1f{array.shape}\x1f".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
