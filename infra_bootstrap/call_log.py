"""Count the calls that are made to AWS, and keep the failed ones for a bug report.

What a call sent, and what a successful call answered, is never kept.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

#: More failed calls than this are only counted.
MOST_FAILURES = 200


@dataclass(frozen=True)
class FailedCall:
    """One call that AWS answered with an error, or did not answer.

    :param after_s: seconds since the log began.
    :param code: AWS's code of the error, or the name of the exception if there was no answer.
    """

    after_s: float
    service: str
    operation: str
    code: str
    message: str
    request_id: str
    status: int


class CallLog:
    """The calls of all clients that it watches. Several threads may call at the same time."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self.failures: list[FailedCall] = []

    def watch(self, client: Any) -> None:
        """Log the calls of a boto3 client from now on.

        Source: https://boto3.amazonaws.com/v1/documentation/api/latest/guide/events.html
        """
        service = client.meta.service_model.service_name

        def answered(model: Any, parsed: dict[str, Any], **_: Any) -> None:
            error, sent = parsed.get("Error", {}), parsed.get("ResponseMetadata", {})
            code = str(error.get("Code", "")) if sent.get("HTTPStatusCode", 200) >= 300 else ""
            self._note(service, model.name, code, str(error.get("Message", "")), sent)

        def broke(event_name: str, exception: BaseException, **_: Any) -> None:
            operation = event_name.rsplit(".", 1)[-1]
            self._note(service, operation, type(exception).__name__, str(exception), {})

        client.meta.events.register("after-call.*", answered)
        client.meta.events.register("after-call-error.*", broke)

    def _note(
        self, service: str, operation: str, code: str, message: str, sent: dict[str, Any]
    ) -> None:
        with self._lock:
            self._counts[service, operation, code] += 1
            if code and len(self.failures) < MOST_FAILURES:
                self.failures.append(
                    FailedCall(
                        round(time.monotonic() - self._began, 1),
                        service,
                        operation,
                        code,
                        message,
                        str(sent.get("RequestId", "")),
                        int(sent.get("HTTPStatusCode", 0)),
                    )
                )

    def as_list(self) -> list[dict[str, Any]]:
        """List the calls that were made: service, operation, how often, and the error codes."""
        with self._lock:
            counted = sorted(self._counts.items())
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for (service, operation, code), count in counted:
            row = rows.setdefault(
                (service, operation),
                {"service": service, "operation": operation, "count": 0, "errors": {}},
            )
            row["count"] += count
            if code:
                row["errors"][code] = count
        return list(rows.values())
