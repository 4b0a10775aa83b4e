"""The digest of a policy's parameters in safetensors form, with the standard library only.

Source of the format: https://github.com/huggingface/safetensors#format
"""

import hashlib
import json

from rl_lifecycle.errors import InvalidRecordError

#: A policy's digest covers the arrays with these names (rl_trainer.checkpointing.digests). The file
#: may also hold an optimizer's state.
DIGESTED = ("policy/", "normalisation/")
#: Type in safetensors → type in NumPy.
TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}


def digest_parameters(data: bytes, source: str) -> str:
    """Compute the digest of a policy from the file of its parameters.

    :param source: the file's name in error messages.
    :raises InvalidRecordError: if it is no safetensors file of a policy.
    """
    try:
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
        digest = hashlib.sha256()
        for name in (names := sorted(name for name in header if name.startswith(DIGESTED))):
            form = header[name]
            first, end = form["data_offsets"]
            if not 0 <= first <= end <= len(data) - start:
                raise ValueError(f"{name} is outside the file")
            digest.update(
                f"{name}\x1f{TYPES[form['dtype']]}\x1f{tuple(form['shape'])}\x1f".encode()
            )
            digest.update(data[start + first : start + end])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidRecordError(
            source, f"is not a safetensors file: {str(error).partition(chr(10))[0]}"
        ) from None
    if not names:
        raise InvalidRecordError(source, f"holds no array of a policy ({', '.join(DIGESTED)}…)")
    return digest.hexdigest()
