"""Encoded authorization messages, as EC2 adds them to a denial and STS decodes them.

AWS's encoding is opaque. Here it is compressed JSON, which nothing but this module may rely on.

Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_DecodeAuthorizationMessage.html. The
form of the decoded message is that of https://repost.aws/knowledge-center/ec2-not-auth-launch.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from local_aws.emulator.wire import read_form, request_id
from local_aws.iam.authorization import Authorizer

Response = tuple[int, dict[str, str], Any]
ACTION = "DecodeAuthorizationMessage"
NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"


def encode(
    principal_arn: str, action: str, resource: str, keys: Mapping[str, Any], explicit: bool
) -> str:
    """Encode why a call was denied.

    :param keys: the condition keys of the call.
    :param explicit: whether a policy denies the call. Otherwise no policy allows it.

    >>> message = encode("arn:aws:iam::1:user/x", "ec2:X", "*", {"aws:Region": "r"}, False)
    >>> json.loads(decode(message))["context"]["conditions"]["items"]
    [{'key': 'aws:Region', 'values': {'items': [{'value': 'r'}]}}]
    """
    items = [
        {"key": key, "values": {"items": [{"value": str(v)} for v in _values(value)]}}
        for key, value in sorted(keys.items())
    ]
    decoded = {
        "allowed": False,
        "explicitDeny": explicit,
        "matchedStatements": {"items": []},
        "failures": {"items": []},
        "context": {
            "principal": {"id": principal_arn.rsplit("/", 1)[-1], "arn": principal_arn},
            "action": action,
            "resource": resource,
            "conditions": {"items": items},
        },
    }
    packed = zlib.compress(json.dumps(decoded).encode(), 9)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def _values(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def decode(message: str) -> str:
    """Decode a message.

    :raises ValueError: if it is not one of ours.
    """
    try:
        packed = base64.urlsafe_b64decode(message + "=" * (-len(message) % 4))
        return zlib.decompress(packed).decode()
    except (binascii.Error, zlib.error, UnicodeError) as error:
        raise ValueError("not an encoded message") from error


class StsFront:
    """The handler in front of the emulator's STS, which cannot decode messages."""

    def __init__(self, inner: Any, authorizer: Authorizer) -> None:
        self._inner = inner
        self._authorizer = authorizer

    async def __call__(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        query: Mapping[str, Any],
    ) -> Response:
        """Serve one request. The emulator has authenticated the caller before."""
        form = read_form(body)
        if form.get("Action") != ACTION:
            answer: Response = await self._inner(method, path, headers, body, query)
            return answer
        denial = self._authorizer.check(headers, f"sts:{ACTION}", "*", {})
        if denial:
            text = f"User: {denial.principal_arn} is not authorized to perform: sts:{ACTION}"
            return _error(403, "AccessDenied", f"{text} {denial.reason(f'sts:{ACTION}')}")
        try:
            decoded = decode(form.get("EncodedMessage", ""))
        except ValueError:
            text = f"Message token is not valid for {ACTION}"
            return _error(400, "InvalidAuthorizationMessageException", text)
        result = f"<{ACTION}Result><DecodedMessage>{escape(decoded)}</DecodedMessage>"
        answered = (
            f'<{ACTION}Response xmlns="{NAMESPACE}">{result}</{ACTION}Result>'
            f"<ResponseMetadata><RequestId>{request_id()}</RequestId></ResponseMetadata>"
            f"</{ACTION}Response>"
        )
        return 200, {"Content-Type": "text/xml"}, answered.encode()


def _error(status: int, code: str, message: str) -> Response:
    error = (
        f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    )
    body = (
        f'<ErrorResponse xmlns="{NAMESPACE}">{error}<RequestId>{request_id()}</RequestId>'
        "</ErrorResponse>"
    )
    return status, {"Content-Type": "text/xml"}, body.encode()
