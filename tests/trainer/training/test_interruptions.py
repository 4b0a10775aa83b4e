"""Spot notices from the metadata service, and uploads after a notice."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rl_trainer.checkpointing.committer import Committer
from rl_trainer.errors import InterruptedTrainingError
from rl_trainer.training import interruptions
from rl_trainer.training.interruptions import Interruption, find_rebalance, find_spot_action

NOTICE = '{"action": "terminate", "time": "2026-01-01T00:02:00Z"}'


class FakeMetadata(ThreadingHTTPServer):
    """EC2's metadata service, version 2, which asks for a token and may have a notice."""

    notice: str | None = None
    rebalance: str | None = None
    token = "secret"


class Handler(BaseHTTPRequestHandler):
    """Answers as EC2 does: 401 without the token, 404 without a notice."""

    server: FakeMetadata

    def do_PUT(self) -> None:
        """Give a token."""
        asked = (
            self.path == "/latest/api/token"
            and self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        )
        self.reply(200 if asked else 400, self.server.token)

    def do_GET(self) -> None:
        """Give the notice."""
        if self.headers["X-aws-ec2-metadata-token"] != self.server.token:
            self.reply(401, "")
        else:
            there = {
                "/latest/meta-data/spot/instance-action": self.server.notice,
                "/latest/meta-data/events/recommendations/rebalance": self.server.rebalance,
            }.get(self.path)
            self.reply(200 if there else 404, there or "")

    def reply(self, code: int, text: str) -> None:
        """Send an answer."""
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def metadata() -> Iterator[FakeMetadata]:
    """A metadata service on the loopback interface."""
    with FakeMetadata(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_spot_notice_is_seen(metadata: FakeMetadata, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch asks every few seconds and keeps the notice's action and time as the reason."""
    monkeypatch.setenv(
        "AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{metadata.server_address[1]}"
    )
    monkeypatch.setattr(interruptions, "POLL_S", 0.02)
    interruption = Interruption()
    interruption.watch_ec2()
    time.sleep(0.1)
    assert interruption.notice == ""
    metadata.notice = NOTICE
    wait_for(lambda: bool(interruption.notice))
    assert interruption.notice == f"spot interruption notice: {NOTICE}"
    interruption.close()


@pytest.mark.parametrize("notice", ['{"noticeTime": "2026-01-01T00:02:00Z"}', "soon"])
def test_a_rebalance_recommendation_is_stored_and_stops_nothing(
    metadata: FakeMetadata, monkeypatch: pytest.MonkeyPatch, notice: str
) -> None:
    """A recommendation of any form is no notice, and the watch continues."""
    monkeypatch.setenv(
        "AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{metadata.server_address[1]}"
    )
    monkeypatch.setattr(interruptions, "POLL_S", 0.02)
    interruption, metadata.rebalance = Interruption(), notice
    interruption.watch_ec2()
    wait_for(lambda: interruption.rebalance_at is not None)
    assert interruption.notice == ""
    seen = interruption.rebalance_at
    metadata.notice = NOTICE
    wait_for(lambda: bool(interruption.notice))
    assert interruption.rebalance_at == seen
    assert notice == "soon" or seen == datetime(2026, 1, 1, 0, 2, tzinfo=UTC)
    interruption.close()


def test_no_metadata_service_is_no_notice() -> None:
    """Without an answer, as on a laptop, there is no notice."""
    assert find_rebalance("http://127.0.0.1:9") is None
    assert find_spot_action("http://127.0.0.1:9") is None


def test_uploads_may_continue_for_a_while_after_a_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A running commit is waited for, and a hanging one is abandoned before the machine ends."""
    monkeypatch.setattr(interruptions, "GRACE_S", 0.3)
    done, never = threading.Event(), threading.Event()
    interruption = Interruption()
    quick = Committer(lambda _waited_s: interruption.check_grace())
    quick.submit(lambda: (time.sleep(0.1), done.set()))
    interruption.give_notice("SIGTERM")
    quick.finish()
    assert done.is_set()
    hanging = Committer(lambda _waited_s: interruption.check_grace())
    hanging.submit(lambda: never.wait(5))
    with pytest.raises(InterruptedTrainingError, match="SIGTERM"):
        hanging.finish()
    never.set()


def test_a_loop_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hanging environment's process is ended; after a clean end nothing is called."""
    monkeypatch.setattr(interruptions, "DEADLINE_S", 0.05)
    ended, late = threading.Event(), threading.Event()
    Interruption(ended.set).give_notice("SIGTERM")
    clean = Interruption(late.set)
    clean.give_notice("SIGTERM")
    clean.close()
    assert ended.wait(5)
    assert not late.is_set()


def test_commits_run_in_order_beside_the_training_and_their_errors_come_back() -> None:
    """The next job waits, and a job's error is raised at the next call and stops later jobs."""
    order: list[int] = []
    committer = Committer()
    committer.submit(lambda: (time.sleep(0.05), order.append(1)))
    assert order == []
    committer.submit(lambda: order.append(2))
    assert order[0] == 1
    committer.submit(lambda: [][0])
    with pytest.raises(IndexError):
        committer.submit(lambda: order.append(4))
    with pytest.raises(IndexError):
        committer.raise_if_failed()
    assert 4 not in order


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait for another thread."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
