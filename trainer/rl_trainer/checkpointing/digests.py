"""The digest of a policy: SHA-256 over its parameters and its normalisation statistics."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

#: Prefixes of array names.
POLICY = "policy/"
NORMALISATION = "normalisation/"


def digest_arrays(arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """Compute a digest over the names, types, shapes and bytes of arrays, sorted by name.

    >>> a, b = np.zeros(2), np.ones(1)
    >>> digest_arrays({"a": a, "b": b}) == digest_arrays({"b": b, "a": a})
    True
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}\x1f{array.dtype.str}\x1f{array.shape}\x1f".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
