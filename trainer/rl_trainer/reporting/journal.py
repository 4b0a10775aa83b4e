"""The journal of an attempt: its events as JSON lines in the store and as sentences on stderr."""

import json
import sys
import threading
from datetime import UTC, datetime
from typing import Any

from rl_lifecycle.storage.layout import TrialId, trainer_log_key
from rl_lifecycle.storage.object_store import ObjectStore


class Journal:
    """The log of one attempt.

    Every event is a JSON line. Its message also goes to stderr at once, for a person.

    :param quiet: write nothing to stderr.
    """

    def __init__(self, trial: TrialId, attempt: int, *, quiet: bool = False) -> None:
        self.key = trainer_log_key(trial, attempt)
        self.quiet = quiet
        self._lines: list[str] = []
        self._written = 0
        self._lock = threading.Lock()

    def event(self, name: str, message: str, **facts: Any) -> None:
        """Add an event.

        :param name: permanent name in snake case.
        :param message: a sentence for a person.
        :param facts: further values of the JSON line.
        """
        line = json.dumps(
            {"at": datetime.now(UTC).isoformat(), "event": name, "message": message, **facts},
            default=str,
        )
        with self._lock:
            self._lines.append(line)
        if not self.quiet:
            print(message, file=sys.stderr, flush=True)  # noqa: T201  progress for a person

    def write(self, store: ObjectStore) -> None:
        """Write the whole log if it has new events. S3 cannot append to an object."""
        with self._lock:
            lines = list(self._lines)
        if len(lines) > self._written:
            store.put(self.key, ("\n".join(lines) + "\n").encode())
            self._written = len(lines)
