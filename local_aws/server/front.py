"""The application in front of the emulator: control requests, credentials, faults and commits."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from local_aws.commands.control import TOKEN_HEADER
from local_aws.emulator import seams
from local_aws.errors import LocalAwsError
from local_aws.faults import calls
from local_aws.faults.calls import FATE, Fate
from local_aws.faults.engine import FaultEngine
from local_aws.iam.authorization import role_of
from local_aws.iam.sessions import Issuer, Renewing, RoleMissingError, TrustError, as_document
from local_aws.server.account import TASKS, Grants
from local_aws.server.answers import Answers
from local_aws.server.persistence import Saver, may_change
from local_aws.server.tag_memory import TagMemory

log = logging.getLogger("local_aws")
SLOW_COMMIT_S = 0.3
STEPS_TO_WRITER = 5
UNKNOWN_ACTION = re.compile(
    rb'"__type": "Invalid(Operation|Action)(Exception)?", "message": "(Unknown action|The action '
    rb"\w+ is not)"
)
"""The answer with which the emulator's JSON services refuse an action that does not exist."""
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Order = Callable[[dict[str, Any]], dict[str, Any]]


class Front:
    """The ASGI application that receives every request.

    :ivar orders: the control requests by name. `/_local/<name>` calls the function with the
        request's body and answers with its result.
    :ivar on_ready: called once the emulator has loaded its state.
    """

    def __init__(
        self, inner: App, issuer: Issuer, grants: Grants, control_token: str, saver: Saver
    ) -> None:
        self._inner = inner
        self._issuer = issuer
        self._grants = grants
        self._control_token = control_token
        self._saver = saver
        self._sessions: dict[str, Renewing] = {}
        self.orders: dict[str, Order] = {}
        self.on_ready: Callable[[], None] = lambda: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or one event of the server's own life."""
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, self._announcing(send))
        elif scope["type"] == "http" and scope["path"].startswith("/_local/"):
            await self._serve_local(scope, receive, send)
        elif scope["type"] == "http" and scope["path"].startswith(("/_ministack", "/_localstack")):
            await _answer(send, 404, {"message": "the emulator's own paths are closed"})
        else:
            self._saver.touch()
            fate = Fate()
            FATE.set(fate)
            await self._inner(
                scope, receive, breaking(send, fate) if scope["type"] == "http" else send
            )

    def _announcing(self, send: Send) -> Send:
        """Call :attr:`on_ready` once the emulator has loaded its state."""

        async def wrapped(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "lifespan.startup.complete":
                try:
                    self.on_ready()
                except Exception:  # hypercorn would swallow any error and serve without an account
                    log.exception("the local AWS cannot start")
                    os._exit(1)
            await send(message)

        return wrapped

    async def _serve_local(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve credentials for a role's token, and control requests for the folder's token."""
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        name = scope["path"].removeprefix("/_local/")
        if name.startswith("credentials/"):
            answer = self._credentials(name.removeprefix("credentials/"), headers)
        elif headers.get(TOKEN_HEADER.lower()) != self._control_token:
            answer = 403, {"message": "this request needs the token of the state folder"}
        elif name not in self.orders:
            answer = 404, {"message": f"there is no order {name!r}"}
        else:
            answer = await self._obey(name, await _read(receive))
        await _answer(send, *answer)

    async def _obey(self, name: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Carry out a control request."""
        try:
            return 200, await asyncio.to_thread(self.orders[name], json.loads(body or b"{}"))
        except (LocalAwsError, RoleMissingError) as error:
            return 400, {"message": str(error)}
        except (ValueError, KeyError, TypeError) as error:
            return 400, {"message": f"not understood: {type(error).__name__} {error}"}

    def _credentials(self, role_name: str, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Return a role's credentials, as a container's credentials endpoint does.

        Source: https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
        """
        if not self._grants.is_valid(role_name, headers.get("authorization", "")):
            return 401, {
                "code": "Unauthorized",
                "message": "the authorization token is not this role's",
            }
        holder = self._sessions.setdefault(
            role_name, self._issuer.holder(role_name, "worker", TASKS)
        )
        try:
            document = as_document(holder.get())
        except TrustError as error:
            return 403, {"code": "AccessDenied", "message": str(error)}
        except RoleMissingError as error:
            return 404, {"code": "NoSuchRole", "message": str(error)}
        return 200, {
            **document,
            "RoleArn": f"arn:aws:iam::{self._issuer.account_id}:role/{role_name}",
        }


def breaking(send: Send, fate: Fate) -> Send:
    """Reset the connection if the answer must be lost, so that the client sees no byte of it."""

    async def wrapped(message: MutableMapping[str, Any]) -> None:
        if not fate.is_lost:
            await send(message)
        elif message["type"] == "http.response.start":
            find_writer(send).transport.abort()
            await send({"type": "http.response.start", "status": 500, "headers": []})

    return wrapped


def find_writer(send: Any) -> Any:
    """Return the stream writer of the connection that a request came through.

    ASGI hides the writer. hypercorn's `send` leads to it from one bound method to the next:
    first the stream's, then the protocol's, then the server's.

    :raises LookupError: if a new version of hypercorn has changed this.
    """
    for _ in range(STEPS_TO_WRITER):
        owner: Any = getattr(send, "__self__", send)
        if hasattr(owner, "writer"):
            return owner.writer
        send = getattr(owner, "send", None)
    raise LookupError(
        "hypercorn hides the connection: see find_writer in local_aws/server/front.py"
    )


class Committing:
    """Wraps a service's handler: applies faults, and saves each change before its caller gets an
    answer.

    :param wrote: called after an object was written, with the role session's name, bucket/key and
        body.
    :param answers: compares the answers with botocore's models; None compares nothing.
    """

    def __init__(
        self,
        service: str,
        inner: Any,
        saver: Saver,
        engine: FaultEngine,
        tag_memory: TagMemory,
        wrote: Callable[[str, str, bytes], None],
        answers: Answers | None,
    ) -> None:
        self._service = service
        self._inner = inner
        self._saver = saver
        self._engine = engine
        self._tag_memory = tag_memory
        self._wrote = wrote
        self._answers = answers

    async def __call__(
        self, method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]
    ) -> Any:
        """Apply the faults, serve the request, and save its changes."""
        actions = seams.module("core.iam_actions")
        action = actions.extract_iam_action(self._service, method, path, headers, body, query)
        principal = caller_arn(headers)
        call = calls.call_of(self._service, action, role_of(principal), path, headers)
        if refused := await calls.before(self._engine, call):
            return refused
        self._tag_memory.before(call.action)
        answer = as_unknown_operation(
            headers, await self._inner(method, path, headers, body, query)
        )
        if self._answers:
            self._answers.check(self._service, (method, path, headers, body, query), answer)
        if answer[0] < 300:
            calls.after(self._engine, call)
            if action == "s3:PutObject":
                self._wrote(principal.rpartition("/")[2], call.key, body)
        if may_change(self._service, action, method):
            self._commit(action)
        return answer

    def _commit(self, action: str | None) -> None:
        """Save what has changed, and log a warning if that took long."""
        began = time.monotonic()
        self._saver.save()
        if (took := time.monotonic() - began) > SLOW_COMMIT_S:
            log.warning("committing after %s took %.2f s", action, took)


def as_unknown_operation(headers: dict[str, str], answer: Any) -> Any:
    """Replace the emulator's code for an unknown action of a JSON service by AWS's code.

    Other answers are returned as they are.

    Source: https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html
    """
    status, sent, text = answer
    text = text.encode() if isinstance(text, str) else text
    if (
        status != 400
        or "x-amz-target" not in headers
        or not isinstance(text, bytes)
        or not UNKNOWN_ACTION.search(text)
    ):
        return answer
    action = headers["x-amz-target"].rpartition(".")[2]
    body = {
        "__type": "UnknownOperationException",
        "message": f"The operation {action} is not known",
    }
    return 400, {**sent, "x-amzn-errortype": "UnknownOperationException"}, json.dumps(body).encode()


def caller_arn(headers: dict[str, str]) -> str:
    """Return the ARN of a request's caller, or an empty string."""
    access_key = seams.module("core.router").extract_access_key_id(headers)
    identity = (
        seams.module("core.iam_evaluator").resolve_caller_identity(access_key)
        if access_key
        else None
    )
    return str(identity["userArn"]) if identity else ""


async def _read(receive: Receive) -> bytes:
    """Read the whole body of a request."""
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


async def _answer(send: Send, status: int, value: dict[str, Any]) -> None:
    """Send a JSON response."""
    body = json.dumps(value, default=str).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
