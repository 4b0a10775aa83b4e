"""A client that takes hardly any processor time: it signs its requests before it sends them.

`python -m benchmarks.account.local_aws_client ENDPOINT REQUESTS CONNECTIONS` reads credentials from
its environment, makes a bucket with versions, as the pipeline's bucket has, and prints one JSON
object. boto3 takes more processor time for a small PUT than the local AWS does, so on two cores a
benchmark with boto3 would measure boto3.
"""

import json
import os
import socket
import sys
import threading
import time

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

BODY = (
    b'{"state": "running", "step": 123456, "steps_per_s": 4321.0, "at": '
    b'"2026-01-01T00:00:00+00:00"}'
)
REGION = "eu-west-1"
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


class Signer:
    """Signs requests for one endpoint."""

    def __init__(self, endpoint: str, credentials: Credentials) -> None:
        self.endpoint, self._credentials = endpoint, credentials

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Write a request as it goes over the wire."""
        made = AWSRequest(method, self.endpoint + path, data=body)
        S3SigV4Auth(self._credentials, "s3", REGION).add_auth(made)
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {self.endpoint.removeprefix('http://')}",
            f"Content-Length: {len(body)}",
        ]
        lines += [f"{name}: {value}" for name, value in made.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + body


class HttpConnection:
    """One connection that stays open."""

    def __init__(self, endpoint: str) -> None:
        host, _, port = endpoint.removeprefix("http://").partition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def exchange(self, request: bytes) -> int:
        """Send a request and read its answer.
        :return: how many bytes its body had.
        :raises SystemExit: if the answer is an error.
        """
        self._socket.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._socket.recv(1 << 16) or sys.exit("the connection was closed")
        head, _, body = data.partition(b"\r\n\r\n")
        if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 204")):
            sys.exit(f"not answered with success: {data[:300]!r}")
        lengths = [
            int(line.partition(b":")[2])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        ]
        wanted = lengths[0] if lengths else 0
        received = len(body)
        while received < wanted:
            received += len(self._socket.recv(1 << 20)) or sys.exit("the connection was closed")
        return received


def make_bucket(signer: Signer, connection: HttpConnection) -> str:
    """Make a versioned bucket. :return: its path."""
    path = f"/bench-{time.time_ns()}"
    place = (
        "<CreateBucketConfiguration "
        f'xmlns="{NAMESPACE}"><LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>'
    )
    versions = (
        "<VersioningConfiguration "
        f'xmlns="{NAMESPACE}"><Status>Enabled</Status></VersioningConfiguration>'
    )
    connection.exchange(signer.request("PUT", path, place.encode()))
    connection.exchange(signer.request("PUT", f"{path}?versioning", versions.encode()))
    return path


def small_puts(signer: Signer, bucket: str, count: int, connections: int) -> float:
    """Write small objects over some connections at once. :return: objects a second."""
    share = count // connections
    requests = [
        [signer.request("PUT", f"{bucket}/heartbeats/{c}/{n}.json", BODY) for n in range(share)]
        for c in range(connections)
    ]
    opened = [HttpConnection(signer.endpoint) for _ in range(connections)]
    began = time.perf_counter()
    threads = [
        threading.Thread(target=lambda c=c: [opened[c].exchange(r) for r in requests[c]])
        for c in range(connections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return share * connections / (time.perf_counter() - began)


def large_object(signer: Signer, bucket: str, mb: int = 50) -> dict[str, float]:
    """Write and read one large object. :return: megabytes a second, each way."""
    connection, body = HttpConnection(signer.endpoint), os.urandom(mb * 1_000_000)
    put, get = (
        signer.request("PUT", f"{bucket}/large", body),
        signer.request("GET", f"{bucket}/large"),
    )
    began = time.perf_counter()
    connection.exchange(put)
    middle = time.perf_counter()
    received = connection.exchange(get)
    end = time.perf_counter()
    if received != len(body):
        sys.exit(f"{received} bytes came back of {len(body)}")
    return {"put_mb_per_s": mb / (middle - began), "get_mb_per_s": mb / (end - middle)}


def main(endpoint: str, count: int, connections: int) -> None:
    """Measure one round."""
    found = [
        os.environ[name]
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    ]
    signer = Signer(endpoint, Credentials(*found))
    bucket = make_bucket(signer, HttpConnection(endpoint))
    print(
        json.dumps(
            {
                "puts_per_s": small_puts(signer, bucket, count, connections),
                **large_object(signer, bucket),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
