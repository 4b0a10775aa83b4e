"""boto3 clients that call the emulator's handlers in this process, without socket or IAM check.

AWS's services use them among themselves. The code that uses such a client checks the caller's
permissions before.
"""

from __future__ import annotations

import functools
from collections.abc import Coroutine, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from local_aws.emulator import seams

KEY = "local-aws-internal"


class _Body:
    """The raw stream of a response, as far as botocore reads it."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        """Yield the whole body."""
        yield self.body

    def read(self, *_: Any, **__: Any) -> bytes:
        """Return the whole body once, then nothing."""
        body, self.body = self.body, b""
        return body


def drive(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a handler that never suspends, and return its result.

    :raises RuntimeError: if the handler suspends, because the emulator has changed.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise RuntimeError("the handler suspended")


_HANDLERS: dict[str, Any] = {}


def keep_original(service: str) -> Any:
    """Remember the emulator's own handler of a service before it is replaced, and return it."""
    return _HANDLERS.setdefault(service, seams.seam("app", "SERVICE_HANDLERS")[service])


@functools.cache
def client(service: str, region: str) -> Any:
    """Return a client of a service in one region."""
    handler = _HANDLERS.get(service) or seams.seam("app", "SERVICE_HANDLERS")[service]
    made: Any = boto3.client(  # type: ignore[call-overload]
        service,
        region_name=region,
        endpoint_url="http://127.0.0.1:1",
        aws_access_key_id=KEY,
        aws_secret_access_key=KEY,
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
    )
    responses = seams.module("core.responses")

    def answer(request: Any, **_: Any) -> AWSResponse:
        url = urlsplit(request.url)
        headers = {
            k.lower(): v.decode() if isinstance(v, bytes) else v for k, v in request.headers.items()
        }
        headers["host"] = url.netloc
        responses.set_request_region(region)
        status, out, data = drive(
            handler(
                request.method,
                url.path or "/",
                headers,
                _as_bytes(request.body),
                parse_qs(url.query, keep_blank_values=True),
            )
        )
        answered: Any = {k.lower(): v for k, v in out.items()}
        return AWSResponse(request.url, status, answered, _Body(_as_bytes(data)))

    made.meta.events.register("before-send.*.*", answer)
    return made


def _as_bytes(body: Any) -> bytes:
    """Return a request's or response's body as bytes."""
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    return body if isinstance(body, bytes) else bytes(body.read())
