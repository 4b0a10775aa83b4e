"""The base class of every stored JSON.

A record cannot be changed, accepts no unknown keys, and is written in one canonical form.
"""

import hashlib
import json
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from rl_lifecycle.errors import InvalidRecordError, NewerRecordError


class Record(BaseModel):
    """A value with a fixed form.

    Equal records have equal bytes, so a digest of the bytes names the value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def to_json(self) -> bytes:
        """Write the record as canonical UTF-8 JSON.

        The keys are sorted, there is no optional white space, and one newline ends the text.
        """
        return canonical_json(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, data: bytes, where: str = "record") -> Self:
        """Read a record from JSON.

        :param where: the URI or path of the bytes, for the error message.
        :raises InvalidRecordError: if the bytes are not JSON of this form.
        :raises NewerRecordError: if a newer version of Nightshift wrote them.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise _explain(error, where) from None

    @classmethod
    def from_value(cls, value: Any, where: str) -> Self:
        """Read a record from JSON that is already parsed.

        :param where: where the value came from, for the error message.
        :raises InvalidRecordError: if the value does not have this form.
        :raises NewerRecordError: if a newer version of Nightshift wrote it.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise _explain(error, where) from None


def _explain(error: ValidationError, where: str) -> InvalidRecordError:
    """Turn a validation error into an InvalidRecordError or a NewerRecordError."""
    for found in error.errors(include_url=False):
        is_new_version = (
            found["loc"][-1:] == ("schema_version",) and found["type"] == "literal_error"
        )
        if is_new_version or found["type"] == "extra_forbidden":
            return NewerRecordError(where, _problem(dict(found)))
    return InvalidRecordError(where, first_problem(error))


def canonical_json(value: Any) -> bytes:
    """Write a JSON value in its one canonical form, so that a digest names the value.

    >>> canonical_json({"b": 1, "a": [1.5]})
    b'{"a":[1.5],"b":1}\\n'
    """
    return (
        json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    )


def sha256_hex(data: bytes) -> str:
    """Compute the SHA-256 of bytes, in lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def first_problem(error: ValidationError) -> str:
    """Describe the first problem of a validation in one line: `key: what is wrong`."""
    return _problem(dict(error.errors(include_url=False)[0]))


def _problem(found: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in found["loc"])
    message = str(found["msg"]).removeprefix("Value error, ")
    return f"{key}: {message}" if key else message
