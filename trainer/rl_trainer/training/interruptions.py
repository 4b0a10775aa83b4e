"""Notices that the machine is being stopped: SIGTERM, SIGINT, or EC2's spot interruption notice.

EC2's rebalance recommendation, which only warns of a possible interruption, is recorded as well.

Sources: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
(two minutes' notice),
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/rebalance-recommendations.html (an interruption
may come with or without a recommendation)
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
#: How many seconds uploads may take after a notice. It is much less than EC2's two minutes.
GRACE_S = 75.0
#: After how many seconds the process ends even if the training loop still runs.
DEADLINE_S = 90.0
DEFAULT_ENDPOINT = "http://169.254.169.254"


class Interruption:
    """A flag with a reason. The training loop checks it at every step.

    A rebalance recommendation does not set the flag, because every segment is saved anyway. Its
    time is kept for the heartbeat. If the machine is lost later, the heartbeat shows that AWS took
    it.

    :param on_deadline: called in another thread if the training loop still runs some time after
        the notice. A long update or a hanging environment must not keep the trainer from
        reporting INTERRUPTED.
    """

    def __init__(self, on_deadline: Callable[[], None] | None = None) -> None:
        self.on_deadline = on_deadline
        self.notice = ""
        self.rebalance_at: datetime | None = None
        self._noticed_at = 0.0
        self._stop = threading.Event()

    def give_notice(self, notice: str) -> None:
        """Set the flag. The first reason stays."""
        if not self.notice:
            self._noticed_at = time.monotonic()
            self.notice = notice
            timer = threading.Timer(DEADLINE_S, self._end)
            timer.daemon = True
            timer.start()

    def check_grace(self) -> None:
        """Stop uploads that take too long after a notice.

        :raises InterruptedTrainingError: if the notice is more than `GRACE_S` seconds old.
        """
        if self.notice and time.monotonic() - self._noticed_at > GRACE_S:
            raise InterruptedTrainingError(
                f"{self.notice}; an upload did not finish within {GRACE_S:.0f} s and is lost"
            )

    def check(self) -> None:
        """Stop what may end at once, because nothing has been trained yet.

        :raises InterruptedTrainingError: if there is a notice.
        """
        if self.notice:
            raise InterruptedTrainingError(f"{self.notice} before the training began")

    def listen_to_signals(self) -> None:
        """Treat SIGTERM and SIGINT as notices. Only the main thread may call this method."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def watch_ec2(self) -> None:
        """Start a thread that asks the instance metadata service every few seconds."""
        threading.Thread(target=self._watch, name="interruption-notices", daemon=True).start()

    def close(self) -> None:
        """Stop the thread."""
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
    """Ask IMDSv2 for the spot interruption notice.

    :return: the JSON text; None without a notice or an answer.
    """
    return _find(endpoint, "spot/instance-action")


def find_rebalance(endpoint: str) -> datetime | None:
    """Ask IMDSv2 for the rebalance recommendation.

    :return: the time of the recommendation; None without a recommendation or an answer.
    """
    document = _find(endpoint, "events/recommendations/rebalance")
    if document is None:
        return None
    try:
        return datetime.fromisoformat(json.loads(document)["noticeTime"])
    except (ValueError, KeyError, TypeError):
        return datetime.now(UTC)  # the recommendation counts even if its time cannot be read


def _find(endpoint: str, path: str) -> str | None:
    try:
        token = _request(
            f"{endpoint}/latest/api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        )
        return _request(
            f"{endpoint}/latest/meta-data/{path}", "GET", {"X-aws-ec2-metadata-token": token}
        )
    except (urllib.error.URLError, OSError):
        return None  # the metadata service answers 404 if there is no notice


def _request(url: str, method: str, headers: dict[str, str]) -> str:
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310  the endpoint is EC2's own
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
        return str(answer.read().decode())
