"""The viewer's session: what opens it, and one sentence soon if AWS does not answer."""

import socket
import threading
from collections.abc import Iterator

import pytest
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from rl_airflow.console.cached_store import KeptValues, ReadingPool
from rl_airflow.console.environments import OPENING, ViewedPlace, open_environment
from rl_airflow.console.problems import describe_problem

PLACE = ViewedPlace("dev", "eu-west-1")
#: Much more than one try takes, and much less than botocore's own five tries of a minute each.
PATIENCE_S = 45.0


@pytest.fixture
def silent_sts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[socket.socket]]:
    """An STS that takes connections and answers none. The list has the connections."""
    taken: list[socket.socket] = []

    def missing(conn_id: str) -> None:
        raise AirflowNotFoundException(conn_id)

    monkeypatch.setattr(BaseHook, "get_connection", missing)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        yield taken
        server.shutdown(socket.SHUT_RDWR)
    for one in taken:
        one.close()


def open_in_a_thread() -> Exception | None:
    """Open the environment. :return: what was raised; None: it still waits"""
    raised: list[Exception] = []

    def work() -> None:
        try:
            open_environment(PLACE, KeptValues(), ReadingPool(1))
        except Exception as error:  # the test compares it
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return raised[0] if raised else None


def test_an_sts_that_does_not_answer_is_asked_once(silent_sts: list[socket.socket]) -> None:
    """The page gets one sentence after one short try."""
    error = open_in_a_thread()
    assert error is not None, "it still waits"
    assert len(silent_sts) == 1
    sentence = describe_problem(error)
    assert "Read timeout" in sentence
    assert sentence.endswith(
        "check the credentials and the region of this process, and its way to AWS STS."
    )


def test_the_first_page_waits_about_ten_seconds_at_most() -> None:
    """A connection may take its time, and then the answer."""
    assert OPENING["retries"]["total_max_attempts"] == 1
    assert OPENING["connect_timeout"] + OPENING["read_timeout"] <= 10
