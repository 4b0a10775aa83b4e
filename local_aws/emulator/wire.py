"""EC2's wire format: form fields to keyword arguments, and dictionaries to XML.

The format is generated from botocore's own model of EC2.
"""

from __future__ import annotations

import base64
import datetime as dt
import functools
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import botocore.session

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
Response = tuple[int, dict[str, str], bytes]


class Ec2ApiError(Exception):
    """An error that EC2 answers.

    :param code: as in https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
    :param status: the HTTP status.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status

    def response(self) -> Response:
        """Return the error as a response."""
        error = f"<Error><Code>{self.code}</Code><Message>{escape(self.message)}</Message></Error>"
        body = f"<Response><Errors>{error}</Errors><RequestID>{request_id()}</RequestID></Response>"
        return self.status, {"Content-Type": "text/xml;charset=UTF-8"}, body.encode()


DRY_RUN = Ec2ApiError(
    "DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412
)


@functools.cache
def model() -> Any:
    """Return botocore's model of EC2. It takes a tenth of a second to load, so it is loaded on
    demand.
    """
    return botocore.session.get_session().get_service_model("ec2")


def request_id() -> str:
    """Return a new request id in AWS's form."""
    raw = secrets.token_hex(16)
    return f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"


def read_form(body: bytes) -> dict[str, str]:
    """Read the form in a request's body. Bytes that are not UTF-8 are replaced."""
    fields = parse_qs(body.decode(errors="replace"), keep_blank_values=True)
    return {name: values[-1] for name, values in fields.items()}


def flatten(body: bytes, query: Mapping[str, list[str]] | None) -> dict[str, str]:
    """Merge the query string and the form of a request."""
    return {name: values[-1] for name, values in (query or {}).items()} | read_form(body)


def decode_request(action: str, flat: Mapping[str, str]) -> dict[str, Any]:
    """Return a request as boto3's keyword arguments.

    :raises Ec2ApiError: UnknownParameter for a field that the model does not have, as EC2 answers.
    """
    shape = model().operation_model(action).input_shape
    used: set[str] = {"Action", "Version"}
    decoded = decode(flat, shape, "", used) if shape else {}
    unknown = sorted(set(flat) - used)
    if unknown and not unknown[0].startswith("X-Amz-"):
        raise Ec2ApiError("UnknownParameter", f"The parameter {unknown[0]} is not recognized")
    return dict(decoded or {})


def decode(flat: Mapping[str, str], shape: Any, prefix: str, used: set[str]) -> Any:
    """Decode the fields below a prefix as a shape; return None if there are no such fields."""
    if prefix and not any(name == prefix or name.startswith(prefix + ".") for name in flat):
        return None
    if shape.type_name == "structure":
        return _decode_structure(flat, shape, prefix, used)
    if shape.type_name == "list":
        return _decode_list(flat, shape, prefix, used)
    used.add(prefix)
    return _decode_scalar(flat.get(prefix, ""), shape.type_name, prefix)


def _decode_structure(
    flat: Mapping[str, str], shape: Any, prefix: str, used: set[str]
) -> dict[str, Any]:
    """Decode each member of a structure that the request contains."""
    out = {}
    for name, member in shape.members.items():
        serialization = member.serialization
        wire = serialization.get("queryName") or serialization.get("name", name)
        wire = wire[0].upper() + wire[1:]
        value = decode(flat, member, f"{prefix}.{wire}" if prefix else wire, used)
        if value is not None:
            out[name] = value
    return out


def _decode_list(flat: Mapping[str, str], shape: Any, prefix: str, used: set[str]) -> list[Any]:
    """Decode `prefix.1`, `prefix.2`, …"""
    out: list[Any] = []
    while (value := decode(flat, shape.member, f"{prefix}.{len(out) + 1}", used)) is not None:
        out.append(value)
    return out


def _decode_scalar(raw: str, kind: str, name: str) -> Any:
    """Decode one value.

    :raises Ec2ApiError: InvalidParameterValue for text that is not a number.
    """
    try:
        if kind in ("integer", "long"):
            return int(raw)
        if kind in ("double", "float"):
            return float(raw)
    except ValueError:
        raise Ec2ApiError(
            "InvalidParameterValue", f"Value ({raw}) for parameter {name} is invalid."
        ) from None
    return raw == "true" if kind == "boolean" else raw


def coerce(value: Any, shape: Any) -> Any:
    """Return a value with the types of a shape. Members that the shape does not have are dropped.

    Templates may write numbers and flags as text.
    """
    if shape.type_name == "structure" and isinstance(value, Mapping):
        return {
            name: coerce(value[name], member)
            for name, member in shape.members.items()
            if value.get(name) is not None
        }
    if shape.type_name == "list" and isinstance(value, list):
        return [coerce(item, shape.member) for item in value]
    if shape.type_name in ("integer", "long"):
        return int(value)
    if shape.type_name in ("double", "float"):
        return float(value)
    return str(value).lower() == "true" if shape.type_name == "boolean" else value


def encode(value: Any, shape: Any, tag: str) -> str:
    """Format a value of a shape as XML; None gives an empty string."""
    if value is None:
        return ""
    kind = shape.type_name
    if kind == "structure":
        inner = _encode_members(value, shape)
    elif kind == "list":
        inner = "".join(
            encode(item, shape.member, shape.member.serialization.get("name", "item"))
            for item in value
        )
    elif kind == "boolean":
        inner = str(value).lower()
    elif kind == "timestamp":
        inner = as_timestamp(value)
    elif kind == "blob":
        inner = base64.b64encode(value).decode()
    else:
        inner = escape(str(value))
    return f"<{tag}>{inner}</{tag}>"


def _encode_members(value: Mapping[str, Any], shape: Any) -> str:
    """Format the members that a dictionary has."""
    return "".join(
        encode(value.get(name), member, member.serialization.get("name", name))
        for name, member in shape.members.items()
    )


def as_timestamp(at: dt.datetime) -> str:
    """Format a time as EC2 does.

    >>> as_timestamp(dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc))
    '2026-01-02T03:04:05.000Z'
    """
    return at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def encode_response(action: str, value: Mapping[str, Any]) -> Response:
    """Return a successful answer of an action as a response."""
    shape = model().operation_model(action).output_shape
    inner = _encode_members(value, shape) if shape else "<return>true</return>"
    body = (
        f"<{action}Response "
        f'xmlns="{NAMESPACE}"><requestId>{request_id()}</requestId>{inner}</{action}Response>'
    )
    return 200, {"Content-Type": "text/xml;charset=UTF-8"}, body.encode()
