"""Clients keep idle connections alive, because a function may take longer than a NAT remembers."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest

from infra_bootstrap.clients import Clients, keep_connections_alive
from rl_airflow.infrastructure.sessions import RoleSession

#: https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html
NAT_FORGETS_S, LONGEST_CALL_S = 350, 900
SLOW_S = 3.0
#: Where Linux's `struct tcp_info` has `tcpi_last_ack_recv`: the milliseconds since the peer's last
#: acknowledgement. https://github.com/torvalds/linux/blob/master/include/uapi/linux/tcp.h
LAST_ACK = 8 + 4 * 12
OPTIONS = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_NODELAY)


class SlowServer:
    """A server on the loopback that answers slowly, and looks at the client's socket meanwhile."""

    def __init__(self, wait_s: float) -> None:
        self.sockets: list[socket.socket] = []
        self.options: list[dict[int, int]] = []
        self.silent_ms: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(wait_s)
                if wait_s:
                    info = outer.sockets[-1].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
                    outer.silent_ms.append(struct.unpack_from("I", info, LAST_ACK)[0])
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: Any) -> None:
                """Keep the tests' output clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        """Stop the server."""
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[SlowServer]:
    """The server, which knows each socket that connects to it."""
    made = SlowServer(getattr(request, "param", 0.0))
    connect = socket.socket.connect

    def connected(self: socket.socket, address: Any) -> None:
        connect(self, address)
        made.sockets.append(self)
        made.options.append(
            {name: self.getsockopt(socket.IPPROTO_TCP, name) for name in OPTIONS}
            | {-1: self.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)}
        )

    monkeypatch.setattr(socket.socket, "connect", connected)
    monkeypatch.setenv("AWS_ENDPOINT_URL", made.url)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    yield made
    made.close()


@pytest.mark.parametrize("whose", ["airflow", "infra_bootstrap"])
def test_a_nat_remembers_the_connection_of_a_long_call(
    server: SlowServer, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Probes come often enough on the connection that a call of a function really uses."""
    monkeypatch.setattr(RoleSession, "_find_connection", lambda _: None)
    client = (
        RoleSession(None, "dev", region_name="eu-west-1").client("lambda")
        if whose == "airflow"
        else Clients(boto3.Session(region_name="eu-west-1")).client("lambda")
    )
    client.invoke(FunctionName="evaluator", Payload=b"{}")
    (used,) = server.options
    idle, every, most, no_delay = (used[name] for name in OPTIONS)
    assert used[-1] == no_delay == 1
    assert idle + every * most < NAT_FORGETS_S
    if whose == "airflow":
        assert client.meta.config.read_timeout > LONGEST_CALL_S


@pytest.mark.parametrize("server", [SLOW_S], indirect=True)
def test_probes_are_sent_and_answered_while_a_call_waits(server: SlowServer) -> None:
    """Without probes nothing is heard for the whole wait; with them it is at most a second."""
    for is_kept in (False, True):
        client = boto3.client("lambda", region_name="eu-west-1")
        if is_kept:
            keep_connections_alive(client, every_s=1)
        client.invoke(FunctionName="evaluator", Payload=b"{}")
    without, kept = server.silent_ms
    assert without >= SLOW_S * 1000 - 100
    assert kept < 2000
