"""Notices that the machine is being taken back: SIGTERM, and EC2's spot interruption notice; and
EC2's guess that it may be.

Sources: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
(two minutes' notice),
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/rebalance-recommendations.html (no promise
either way)
"""

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType

from rl_trainer.errors import InterruptedTrainingError

POLL_S = 5.0
TIMEOUT_S = 2.0
#: How long uploads may go on after a notice: well within EC2's two minutes.
GRACE_S = 75.0
#: When the process ends although the training loop has not.
DEADLINE_S = 90.0
DEFAULT_ENDPOINT = "http://169.254.169.254"


class Interruption:
    """A flag with a reason; the training loop looks at it at every step.

    A rebalance recommendation sets no flag: what could be saved is saved at each segment's end
    anyway. It is remembered, so that the heartbeat can say it, and a machine that is lost
    afterwards was taken by AWS.

    :param on_deadline: called, in another thread, when the training loop has not ended some time
        after the notice: a long update, or an environment that hangs, must not keep the trainer
        from saying INTERRUPTED.
    """

    def __init__(self, on_deadline: Callable[[], None] | None = None) -> None:
        self.on_deadline = on_deadline
        self.notice = ""
        self.rebalance_at: datetime | None = None
        self._noticed_at = 0.0
        self._stop = threading.Event()

    def give_notice(self, notice: str) -> None:
        """Set the flag; the first reason stays."""
        if not self.notice:
            self._noticed_at = time.monotonic()
            self.notice = notice
            timer = threading.Timer(DEADLINE_S, self._end)
            timer.daemon = True
            timer.start()

    def check_grace(self) -> None:
        """Say when uploads have had long enough.
        :raises InterruptedTrainingError: some time after the notice.
        """
        if self.notice and time.monotonic() - self._noticed_at > GRACE_S:
            raise InterruptedTrainingError(
                f"{self.notice}; an upload did not end within {GRACE_S:.0f} s and is lost"
            )

    def listen_to_signals(self) -> None:
        """Take SIGTERM and SIGINT as notices. Only the main thread may call this."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def watch_ec2(self) -> None:
        """Start to ask the instance's metadata service every few seconds."""
        threading.Thread(target=self._watch, name="interruption-notices", daemon=True).start()

    def close(self) -> None:
        """End the watch."""
        self._stop.set()

    def _end(self) -> None:
        if self.on_deadline is not None and not self._stop.is_set():
            self.on_deadline()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.give_notice(signal.Signals(number).name)

    def _watch(self) -> None:
        endpoint = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", DEFAULT_ENDPOINT).rstrip("/")
        while not self._stop.is_set() and not self.notice:
            if (action := find_spot_action(endpoint)) is not None:
                self.give_notice(f"spot interruption notice: {action}")
            self.rebalance_at = self.rebalance_at or find_rebalance(endpoint)
            self._stop.wait(POLL_S)


def find_spot_action(endpoint: str) -> str | None:
    """Ask IMDSv2 for the spot notice. :return: its JSON; None if there is none, or no answer."""
    return _find(endpoint, "spot/instance-action")


def find_rebalance(endpoint: str) -> datetime | None:
    """Ask IMDSv2 for the rebalance recommendation.
    :return: since when there is one; None if there is none, or no answer.
    """
    said = _find(endpoint, "events/recommendations/rebalance")
    if said is None:
        return None
    try:
        return datetime.fromisoformat(json.loads(said)["noticeTime"])
    except (ValueError, KeyError, TypeError):
        return datetime.now(UTC)  # it is recommended, whatever form the time has


def _find(endpoint: str, path: str) -> str | None:
    try:
        token = _request(
            f"{endpoint}/latest/api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        )
        return _request(
            f"{endpoint}/latest/meta-data/{path}", "GET", {"X-aws-ec2-metadata-token": token}
        )
    except (urllib.error.URLError, OSError):
        return None  # 404: no notice


def _request(url: str, method: str, headers: dict[str, str]) -> str:
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310  the endpoint is EC2's own
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
        return str(answer.read().decode())
