"""The base of every stored JSON: frozen, closed to unknown keys, written in one canonical form."""

import hashlib
import json
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from rl_lifecycle.errors import InvalidRecordError


class Record(BaseModel):
    """A value with a fixed form. Equal records have equal bytes, so a digest of the bytes names the value."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def to_json(self) -> bytes:
        """Write the record as canonical UTF-8 JSON: sorted keys, no optional white space, one final newline."""
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, data: bytes, where: str = "record") -> Self:
        """Read a record back.

        :param where: the URI or path that the bytes came from, for the error.
        :raises InvalidRecordError: if the bytes are not JSON of this form.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise InvalidRecordError(where, first_problem(error)) from None


def canonical_json(value: Any) -> bytes:
    """Write a JSON value in the one form whose digest names it.

    >>> canonical_json({"b": 1, "a": [1.5]})
    b'{"a":[1.5],"b":1}\\n'
    """
    return (
        json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    )


def sha256_hex(data: bytes) -> str:
    """Name bytes by their SHA-256, in lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def first_problem(error: ValidationError) -> str:
    """Say the first problem of a validation as `key: what is wrong`, in one line."""
    found = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in found["loc"])
    message = str(found["msg"]).removeprefix("Value error, ")
    return f"{key}: {message}" if key else message
