"""The attempts of a trial as they lie in the bucket: written once before the call, then moved on by
If-Match only.
"""

from collections.abc import Callable
from typing import NamedTuple

from rl_lifecycle.errors import PreconditionFailedError
from rl_lifecycle.machines.attempts import Attempt, AttemptOutcome
from rl_lifecycle.storage.layout import TrialId, attempt_key, attempt_prefix
from rl_lifecycle.storage.object_store import ObjectStore, put_once


class StoredAttempt(NamedTuple):
    """An attempt and the ETag that its next version must still find."""

    attempt: Attempt
    etag: str


class AttemptFiles:
    """All attempts of one trial."""

    def __init__(self, store: ObjectStore, trial: TrialId) -> None:
        self.store, self.trial = store, trial

    def read(self) -> tuple[StoredAttempt, ...]:
        """Read them, oldest first. Numbers are dense, so that no LIST is needed and none can be
        missed.
        """
        found: list[StoredAttempt] = []
        while (there := self.store.find(attempt_key(self.trial, len(found) + 1))) is not None:
            attempt = Attempt.from_json(there.data, attempt_key(self.trial, len(found) + 1))
            found.append(StoredAttempt(attempt, there.etag))
        return tuple(found)

    def create(self, attempt: Attempt) -> bool:
        """Write a new attempt. :return: False if somebody else wrote that number first."""
        return put_once(self.store, attempt_key(self.trial, attempt.attempt), attempt.to_json())

    def update(
        self, stored: StoredAttempt, change: Callable[[AttemptOutcome], AttemptOutcome]
    ) -> bool:
        """Move an attempt's outcome on.

        :return: False if somebody else moved it first: look again.
        """
        moved = stored.attempt.with_outcome(change(stored.attempt.outcome))
        try:
            self.store.put(
                attempt_key(self.trial, moved.attempt), moved.to_json(), if_match=stored.etag
            )
        except PreconditionFailedError:
            return False
        return True

    @property
    def uri(self) -> str:
        """Where they lie."""
        return f"{self.store.uri}/{attempt_prefix(self.trial)}"
