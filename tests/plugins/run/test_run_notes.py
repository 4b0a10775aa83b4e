"""A run's note is written through Airflow's API, and a failure never fails a task."""

import http.server
import json
import socketserver
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk import BaseHook
from airflow.sdk.definitions.connection import Connection

from rl_airflow.infrastructure.airflow_api import ACTS, CONNECTION, AirflowApi, events_of_run
from rl_airflow.run.notes import MOST_CHARACTERS, write_note

CONTEXT: Any = {
    "dag_run": type(
        "Run", (), {"dag_id": "retrain_cartpole", "run_id": "manual__2026-11-25T02:00:00+00:00"}
    )()
}


class FakeApi(http.server.BaseHTTPRequestHandler):
    """The part of Airflow's API that writes notes."""

    asked: list[tuple[str, str, Any]] = []

    def _answer(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"null")
        self.asked.append((self.command, self.path, body))
        good = (
            body == {"username": "ada", "password": "secret"}
            or self.headers["Authorization"] == "Bearer t"
        )
        self.send_response(200 if good else 401)
        self.end_headers()
        self.wfile.write(json.dumps({"access_token": "t", "event_logs": []}).encode())

    do_POST = do_PATCH = do_GET = _answer

    def log_message(self, *arguments: Any) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def api() -> Iterator[http.server.HTTPServer]:
    """A server on the loopback interface."""
    FakeApi.asked = []
    with http.server.HTTPServer(("127.0.0.1", 0), FakeApi) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def connect(monkeypatch: pytest.MonkeyPatch, port: int, password: str = "secret") -> None:
    """Define the connection."""
    made = Connection(
        conn_id=CONNECTION,
        conn_type="http",
        host="127.0.0.1",
        schema="http",
        port=port,
        login="ada",
        password=password,
    )
    monkeypatch.setattr(BaseHook, "get_connection", classmethod(lambda hook, name: made))


def test_the_verdict_becomes_the_runs_note(
    api: http.server.HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection's user writes it, cut to Airflow's length."""
    connect(monkeypatch, api.server_port)
    assert write_note(CONTEXT, "PROMOTE: " + "x" * 2000)
    method, path, body = FakeApi.asked[-1]
    assert (method, path) == (
        "PATCH",
        "/api/v2/dags/retrain_cartpole/dagRuns/manual__2026-11-25T02%3A00%3A00%2B00%3A00?update_mask=note",
    )
    assert len(body["note"]) == MOST_CHARACTERS


def test_the_audit_log_is_asked_for_what_people_did_to_the_run(
    api: http.server.HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log also has the begin and end of every task, so only acts of people are asked for."""
    connect(monkeypatch, api.server_port)
    assert events_of_run(AirflowApi(), CONTEXT) == []
    method, path, _ = FakeApi.asked[-1]
    address = urllib.parse.urlsplit(path)
    query = urllib.parse.parse_qs(address.query)
    assert (method, address.path) == ("GET", "/api/v2/eventLogs")
    assert query["run_id"] == [CONTEXT["dag_run"].run_id]
    assert set(query["included_events"]) == set(ACTS)


def test_each_act_is_a_function_of_airflows_api() -> None:
    """Airflow names an event after the function that a person's request calls."""
    from airflow.api_fastapi.core_api.routes.public import dag_run, task_instances

    known = {*vars(dag_run), *vars(task_instances)}
    assert set(ACTS) <= known


@pytest.mark.parametrize("case", ["no connection", "wrong password", "nobody there"])
def test_a_note_that_cannot_be_written_fails_nothing(
    api: http.server.HTTPServer, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """The verdict is also in the log and the report."""
    if case != "no connection":
        connect(monkeypatch, api.server_port if case == "wrong password" else 9, "wrong")
    assert not write_note(CONTEXT, "KEEP")


def test_a_host_may_come_with_its_scheme(
    api: http.server.HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection's host may contain the scheme, as its form says."""
    made = Connection(
        conn_id=CONNECTION,
        conn_type="http",
        host="http://127.0.0.1/",
        port=api.server_port,
        login="ada",
        password="secret",
    )
    monkeypatch.setattr(BaseHook, "get_connection", classmethod(lambda hook, name: made))
    assert write_note(CONTEXT, "KEEP")


@pytest.mark.parametrize(
    "answer",
    [
        b"not HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{",
    ],
)
def test_an_unexpected_answer_fails_nothing(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    """Another service may use the port."""

    class Other(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(answer)

    with socketserver.TCPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        connect(monkeypatch, server.server_address[1])
        assert not write_note(CONTEXT, "KEEP")
        server.shutdown()
