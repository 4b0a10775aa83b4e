"""Requests from the command line to a running server: JSON over loopback, with a token."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from local_aws.errors import LocalAwsError, NotRunningError
from local_aws.state_folder import Running

TOKEN_HEADER = "X-Local-Aws-Token"  # noqa: S105 - a name, no secret


def ask(
    running: Running, path: str, order: dict[str, Any] | None = None, timeout_s: float = 10.0
) -> dict[str, Any]:
    """Call the control request `/_local/<path>` and return its answer.

    :param order: the data of a POST request; None for a GET request.
    :raises LocalAwsError: with the server's message if the server refuses.
    :raises NotRunningError: if the server does not answer.
    """
    request = urllib.request.Request(  # noqa: S310 - our own http:// endpoint
        f"{running.endpoint_url}/_local/{path}",
        data=None if order is None else json.dumps(order).encode(),
        headers={TOKEN_HEADER: running.control_token, "Content-Type": "application/json"},
        method="GET" if order is None else "POST",
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            return dict(json.loads(answer.read() or b"{}"))
    except urllib.error.HTTPError as refused:
        raise LocalAwsError(_reason(refused)) from None
    except (OSError, ValueError) as error:
        raise NotRunningError(
            f"the local AWS at {running.endpoint_url} does not answer: {error}"
        ) from None


def _reason(refused: urllib.error.HTTPError) -> str:
    """Return the server's error message, or the HTTP status if there is no message."""
    try:
        return str(json.loads(refused.read())["message"])
    except (ValueError, KeyError, TypeError):
        return f"the local AWS answered {refused.code}"
