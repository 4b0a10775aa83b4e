"""Faults of API calls: throttled, failing or slow calls, and lost answers."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from local_aws.emulator.wire import Ec2ApiError, request_id
from local_aws.faults.engine import FaultEngine

Response = tuple[int, dict[str, str], bytes]
QUERY = ("iam", "sts", "cloudformation", "sns", "monitoring", "sqs")
THROTTLED = {
    "ec2": ("RequestLimitExceeded", 503),
    "s3": ("SlowDown", 503),
    "lambda": ("TooManyRequestsException", 429),
}
BROKEN = {
    ("s3", 503): "ServiceUnavailable",
    ("s3", 500): "InternalError",
    ("ec2", 500): "InternalError",
    ("ec2", 503): "Unavailable",
    ("lambda", 500): "ServiceException",
}


@dataclass
class Fate:
    """What a fault does to the answer of one request.

    :param is_lost: the answer must not arrive.
    """

    is_lost: bool = False


FATE: contextvars.ContextVar[Fate | None] = contextvars.ContextVar("fate", default=None)
"""The fate of the current request. The front sets it, so that a handler can decide about the
connection."""


@dataclass(frozen=True)
class Call:
    """One API call."""

    service: str
    action: str
    role: str
    key: str
    is_conditional: bool
    region: str = ""

    def names(self) -> dict[str, str]:
        """Return the values that the patterns of faults are compared with, by parameter."""
        return {"service": self.service, "action": self.action, "role": self.role, "key": self.key}

    def __str__(self) -> str:
        caller = self.role or "an anonymous caller"
        return f"{self.service}:{self.action} by {caller} {self.key}".strip()


async def before(engine: FaultEngine, call: Call) -> Response | None:
    """Apply the faults that occur before a call has an effect.

    A fault may delay the call.

    :return: the error that a fault causes, or None.
    """
    if engine.strike("closed_region", str(call), region=call.region):
        code = "AuthFailure" if call.service == "ec2" else "InvalidClientTokenId"
        text = "AWS was not able to validate the provided access credentials"
        return error_response(call.service, code, text, 401 if call.service == "ec2" else 403)
    if slow := engine.strike("slow", str(call), **call.names()):
        await asyncio.sleep(slow.values["seconds"])
    if engine.strike("throttle", str(call), **call.names()):
        code, status = THROTTLED.get(
            call.service, ("Throttling" if call.service in QUERY else "ThrottlingException", 400)
        )
        return error_response(call.service, code, "Rate exceeded", status)
    if broken := engine.strike("error", str(call), **call.names()):
        status = broken.values["status"]
        return error_response(
            call.service,
            BROKEN.get((call.service, status), "InternalFailure"),
            "We encountered an internal error. Please try again.",
            status,
        )
    if call.is_conditional and engine.strike("conflict", str(call), role=call.role, key=call.key):
        text = (
            "The conditional request cannot succeed due to a conflicting operation against "
            "this resource."
        )
        return error_response("s3", "ConditionalRequestConflict", text, 409)
    return None


def after(engine: FaultEngine, call: Call) -> None:
    """Decide whether a fault loses the answer of a call that has taken effect."""
    fate = FATE.get()
    if fate and engine.strike("lose_response", str(call), **call.names()):
        fate.is_lost = True


def error_response(service: str, code: str, message: str, status: int) -> Response:
    """Return an error in the form of a service."""
    if service == "ec2":
        return Ec2ApiError(code, message, status).response()
    detail = f"<Code>{code}</Code><Message>{escape(message)}</Message>"
    if service == "s3":
        body = (
            '<?xml version="1.0" '
            f'encoding="UTF-8"?>\n<Error>{detail}<RequestId>{request_id()}</RequestId></Error>'
        )
        return status, {"Content-Type": "application/xml"}, body.encode()
    if service in QUERY:
        error = f"<Error><Type>{'Sender' if status < 500 else 'Receiver'}</Type>{detail}</Error>"
        body = f"<ErrorResponse>{error}<RequestId>{request_id()}</RequestId></ErrorResponse>"
        return status, {"Content-Type": "text/xml"}, body.encode()
    headers = {"Content-Type": "application/json", "x-amzn-errortype": code}
    return (
        status,
        headers,
        json.dumps({"__type": code, "message": message, "Message": message}).encode(),
    )


def call_of(
    service: str, iam_action: str | None, role: str, path: str, headers: Mapping[str, str]
) -> Call:
    """Return the facts of a request that faults can refer to."""
    key = path.lstrip("/") if service == "s3" else ""
    is_conditional = service == "s3" and bool(
        headers.get("if-match") or headers.get("if-none-match")
    )
    action = (iam_action or "").partition(":")[2]
    return Call(service, action, role, key, is_conditional, region_of(headers))


def region_of(headers: Mapping[str, str]) -> str:
    """Return the region that a request is signed for, or an empty string.

    >>> region_of({"authorization": "AWS4-HMAC-SHA256 Credential=AK/20260101/eu-west-1/ec2/x"})
    'eu-west-1'
    """
    parts = headers.get("authorization", "").partition("Credential=")[2].split(",")[0].split("/")
    return parts[2] if len(parts) > 2 else ""


def read_field(body: bytes, name: str) -> Any:
    """Return a field of a JSON document, or None if there is no such field.

    >>> read_field(b'{"a": {"step": 3}}', "a.step")
    3
    """
    try:
        found: Any = json.loads(body)
    except ValueError:
        return None
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found
