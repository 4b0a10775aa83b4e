"""The player reads and writes through addresses alone, over HTTP."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from rl_evaluator.errors import ExpiredRequestError, InvalidRequestError
from rl_evaluator.playing import url_store
from rl_evaluator.playing.url_store import UrlStore
from rl_lifecycle.errors import CorruptArtifactError, StoreRefusedError, StoreUnavailableError
from rl_lifecycle.storage.object_store import get, put_once


class Bucket:
    """What a small S3 on the loopback holds, and the answers that it gives first."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {"/policy": b"onnx"}
        self.first: list[tuple[int, bytes]] = []
        self.headers: list[dict[str, str]] = []
        self.address = ""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A small S3 that writes a key once."""
    made = Bucket()
    monkeypatch.setattr(url_store, "PAUSES_S", (0.0, 0.0))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(
                200 if self.path in made.objects else 404, made.objects.get(self.path, b"")
            )

        def do_PUT(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            made.headers.append(dict(self.headers.items()))
            if self.path in made.objects:
                return self._answer(412)
            made.objects[self.path] = data
            return self._answer(200)

        def _answer(self, status: int, data: bytes = b"") -> None:
            status, data = made.first.pop(0) if made.first else (status, data)
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the tests' output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made.address = f"http://127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()
    server.server_close()


def store_of(bucket: Bucket) -> UrlStore:
    """Make a store with two addresses to read, and one to write."""
    return UrlStore(
        {"p.onnx": f"{bucket.address}/policy", "gone": f"{bucket.address}/gone"},
        f"{bucket.address}/shard",
    )


def test_a_key_is_read_and_its_digest_is_checked(bucket: Bucket) -> None:
    """What the address gives must have the digest that the request names."""
    store = store_of(bucket)
    assert get(store, "p.onnx").data == b"onnx"
    assert store.find("gone") is None
    with pytest.raises(CorruptArtifactError):
        get(store, "p.onnx", "0" * 64)


def test_a_shard_is_written_once(bucket: Bucket) -> None:
    """The second write finds another shard, and leaves it."""
    store = store_of(bucket)
    assert put_once(store, "shard", b"1") is True
    assert put_once(store, "shard", b"2") is False
    assert bucket.objects["/shard"] == b"1"
    assert bucket.headers[0]["If-None-Match"] == "*"


def test_a_busy_s3_is_asked_again(bucket: Bucket) -> None:
    """A 503 says nothing about the key."""
    bucket.first = [(503, b""), (500, b"")]
    assert get(store_of(bucket), "p.onnx").data == b"onnx"
    bucket.first = [(503, b"")] * 3
    with pytest.raises(StoreUnavailableError, match="S3 answered 503") as caught:
        get(store_of(bucket), "p.onnx")
    assert type(caught.value) is StoreUnavailableError


@pytest.mark.parametrize(
    ("status", "body"),
    [(403, b"<Message>Request has expired</Message>"), (400, b"<Code>ExpiredToken</Code>")],
)
def test_an_old_address_is_an_error_of_its_own(bucket: Bucket, status: int, body: bytes) -> None:
    """The dispatcher then signs again."""
    bucket.first = [(status, body)]
    with pytest.raises(ExpiredRequestError) as caught:
        get(store_of(bucket), "p.onnx")
    assert bucket.address not in str(caught.value)


def test_a_refused_address_is_no_old_one(bucket: Bucket) -> None:
    """A wrong signature stays wrong."""
    bucket.first = [(403, b"<Code>SignatureDoesNotMatch</Code>")]
    with pytest.raises(StoreRefusedError, match="S3 answered 403") as caught:
        get(store_of(bucket), "p.onnx")
    assert bucket.address not in str(caught.value)


def test_no_other_key_and_no_file_is_read(bucket: Bucket) -> None:
    """Only what was handed over can be read, and only over HTTP."""
    with pytest.raises(InvalidRequestError, match="was not handed over"):
        store_of(bucket).find("specs/a/b/spec.json")
    with pytest.raises(InvalidRequestError, match="is not one of S3"):
        UrlStore({"p": "file:///etc/passwd"}).find("p")
    with pytest.raises(InvalidRequestError, match="cannot list"):
        store_of(bucket).list("")
