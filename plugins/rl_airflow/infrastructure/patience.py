"""Wait for AWS by the table in :mod:`rl_lifecycle.aws_errors`: in time, not in tries."""

import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from rl_airflow.errors import first_line
from rl_lifecycle.aws_errors import (
    BELIEVED_AFTER_S,
    error_code,
    http_status,
    may_pass,
    pauses_s,
    waiting_for,
)

if TYPE_CHECKING:
    from botocore.client import BaseClient

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Where a request keeps the pauses that are left.
CONTEXT_KEY = "nightshift_pauses"


def wait_in_client(
    client: "BaseClient",
    service: str,
    in_a_hurry: Callable[[], bool],
    pauses: Callable[[], Iterable[float]] | None = None,
) -> None:
    """Make a client repeat each request that AWS refuses for now, until the service's time is up.

    botocore signs the request again each time, so that credentials are renewed meanwhile. It calls
    the handlers of `needs-retry` after each answer and sleeps as long as the first one says, so
    this comes after botocore's own quick tries.

    :param in_a_hurry: whether to give up at once, because the process is being killed.
    :param pauses: makes the pauses of one request, seconds. None means those of the table.
    """
    make = pauses or (lambda: pauses_s(waiting_for(service).most_s))

    def needs_retry(
        request_dict: dict[str, Any], response: Any, caught_exception: Any, **_: Any
    ) -> float | None:
        error = caught_exception or _refusal(response)
        if error is None or in_a_hurry() or not may_pass(error):
            return None
        left = request_dict["context"].setdefault(CONTEXT_KEY, iter(make()))
        pause = next(left, None)
        if pause is not None:
            log.info(
                "%s does not answer for now (%s); asking again in %.0f s",
                service,
                error_code(error) or first_line(error),
                pause,
            )
        return pause

    client.meta.events.register_last("needs-retry", needs_retry)  # type: ignore[arg-type]


class _RefusalError(Exception):
    """AWS's answer with an error, in the form of botocore's `ClientError`."""

    def __init__(self, response: dict[str, Any]) -> None:
        self.response = response
        super().__init__(f"{error_code(self)} ({http_status(self)})")


def _refusal(response: Any) -> _RefusalError | None:
    """Return the error of an answer: a pair of the HTTP answer and its parsed form."""
    parsed = response[1] if response else {}
    return _RefusalError(parsed) if parsed.get("Error") else None


def repeat(
    call: Callable[[], T],
    service: str,
    pauses: Iterable[float] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Call until AWS no longer refuses, or until the service's time is up.

    This is for the first calls of a task. A call without any answer is not repeated then, because a
    region that does not exist gives no answer either.

    :param pauses: the pauses between the calls, seconds. None means those of the table.
    :raises Exception: what the last call raised.
    """
    for pause in pauses_s(waiting_for(service).most_s) if pauses is None else pauses:
        try:
            return call()
        except Exception as error:  # the errors that may pass have several types
            if not (error_code(error) and may_pass(error)):
                raise
            log.info(
                "%s does not answer for now (%s); asking again in %.0f s",
                service,
                first_line(error),
                pause,
            )
        sleep(pause)
    return call()


class Outage:
    """Measures how long the looks of a trigger have failed.

    :param service: the service that is looked at.
    :param clock: monotonic seconds.
    """

    def __init__(self, service: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.most_s, self.clock = waiting_for(service).most_s, clock
        self._began_at: float | None = None

    def is_over(self, error: BaseException) -> bool:
        """Note a failed look. :return: whether the worker must find the cause."""
        now = self.clock()
        if self._began_at is None:
            self._began_at = now
        most_s = self.most_s if may_pass(error) else BELIEVED_AFTER_S
        return now - self._began_at >= most_s

    def end(self) -> None:
        """Note a look that worked."""
        self._began_at = None

    @property
    def is_on(self) -> bool:
        """Whether the newest look failed."""
        return self._began_at is not None
