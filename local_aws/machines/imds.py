"""The instance metadata service (IMDS): one for each instance, on its own loopback port.

Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

TOKEN_TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"  # noqa: S105 - a name
TOKEN_HEADER = "X-aws-ec2-metadata-token"  # noqa: S105 - a name
LONGEST_TTL_S = 21600
Leaf = str | Callable[[], str]


@dataclass
class Metadata:
    """The contents and the tokens of one metadata service.

    :param tree: called at each request. Returns, by path below `/latest/`, a text or a function
        that makes the text.
    :param options: returns the instance's `MetadataOptions`. They are read at each request, because
        they can change.
    :param tokens: the end of each token (`time.monotonic`).
    """

    tree: Callable[[], Mapping[str, Leaf]]
    options: Callable[[], Mapping[str, Any]]
    tokens: dict[str, float] = field(default_factory=dict)

    def accepts(self, token: str | None) -> bool:
        """Say whether a request may read: it has a live token, or needs none."""
        if token is None:
            return self.options().get("HttpTokens") != "required"
        return self.tokens.get(token, 0.0) > time.monotonic()

    def new_token(self, ttl_s: int) -> str:
        """Create a token that is valid for `ttl_s` seconds."""
        token = secrets.token_urlsafe(42)
        self.tokens[token] = time.monotonic() + ttl_s
        return token

    def find(self, path: str) -> str | None:
        """Return the text at a path, or the names below a folder. None means nothing."""
        tree = self.tree()
        found = tree.get(path.rstrip("/"))
        if found is not None:
            return found() if callable(found) else found
        return list_folder(tree, path.strip("/"))


def list_folder(tree: Mapping[str, Leaf], path: str) -> str | None:
    """List the names below a path as IMDS does: folders have a slash. None means no names.

    >>> list_folder({"meta-data/a": "1", "meta-data/b/c": "2"}, "meta-data")
    'a\\nb/'
    """
    below = path + "/" if path else ""
    names = {
        rest.split("/")[0] + ("/" if "/" in rest else "")
        for name in tree
        if name.startswith(below) and (rest := name[len(below) :])
    }
    return "\n".join(sorted(names)) or None


class _Handler(BaseHTTPRequestHandler):
    """Serves :class:`Metadata` over HTTP."""

    protocol_version = "HTTP/1.1"
    server_version = "EC2ws"
    sys_version = ""

    def log_message(self, *_: Any) -> None:
        """Log nothing, because instances poll every few seconds."""

    @property
    def metadata(self) -> Metadata:
        """The metadata of the instance that this server belongs to."""
        return cast(Metadata, self.server.metadata)  # type: ignore[attr-defined]

    def _answer(self, status: int, text: str = "") -> None:
        """Send a response in plain text."""
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        """Create a session token."""
        ttl = self.headers.get(TOKEN_TTL_HEADER, "")
        if self.metadata.options().get("HttpEndpoint") == "disabled" or self.headers.get(
            "X-Forwarded-For"
        ):
            return self._answer(403)
        if self.path != "/latest/api/token":
            return self._answer(404)
        if not ttl.isdigit() or not 1 <= int(ttl) <= LONGEST_TTL_S:
            return self._answer(400)
        return self._answer(200, self.metadata.new_token(int(ttl)))

    def do_GET(self) -> None:
        """Answer with the metadata at a path."""
        if self.metadata.options().get("HttpEndpoint") == "disabled":
            return self._answer(403)
        if not self.metadata.accepts(self.headers.get(TOKEN_HEADER)):
            return self._answer(401)
        path = self.path.partition("?")[0]
        if path in ("", "/"):
            return self._answer(200, "latest")
        found = (
            self.metadata.find(path.removeprefix("/latest").lstrip("/"))
            if path.startswith("/latest")
            else None
        )
        return self._answer(404) if found is None else self._answer(200, found)


class MetadataServer:
    """A running metadata service."""

    def __init__(self, metadata: Metadata) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.metadata = metadata  # type: ignore[attr-defined]
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(
            target=self._server.serve_forever, args=[0.05], daemon=True, name="imds"
        ).start()

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()
