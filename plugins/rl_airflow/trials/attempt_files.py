"""The attempts of a trial in the bucket.

An attempt is written once, before the machine is requested. Later changes use If-Match.
"""

from collections.abc import Callable
from typing import NamedTuple

from rl_lifecycle.errors import PreconditionFailedError
from rl_lifecycle.machines.machine_attempts import Attempt, AttemptOutcome
from rl_lifecycle.storage.layout import TrialId, attempt_key, attempt_prefix
from rl_lifecycle.storage.object_store import ObjectStore, put_once


class StoredAttempt(NamedTuple):
    """An attempt, with the ETag that its object must still have when it is changed."""

    attempt: Attempt
    etag: str


class AttemptFiles:
    """All attempts of one trial."""

    def __init__(self, store: ObjectStore, trial: TrialId) -> None:
        self.store, self.trial = store, trial

    def read(self) -> tuple[StoredAttempt, ...]:
        """Read all attempts, oldest first.

        Their numbers have no gaps, so this needs no LIST and misses no attempt.
        """
        found: list[StoredAttempt] = []
        while (there := self.store.find(attempt_key(self.trial, len(found) + 1))) is not None:
            attempt = Attempt.from_json(there.data, attempt_key(self.trial, len(found) + 1))
            found.append(StoredAttempt(attempt, there.etag))
        return tuple(found)

    def create(self, attempt: Attempt) -> bool:
        """Write a new attempt. :return: False if another process wrote that number first."""
        return put_once(self.store, attempt_key(self.trial, attempt.attempt), attempt.to_json())

    def update(
        self, stored: StoredAttempt, change: Callable[[AttemptOutcome], AttemptOutcome]
    ) -> bool:
        """Change an attempt's outcome.

        :return: False if another process changed it first. Then read the attempts again.
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
        """The URI of the attempts' folder."""
        return f"{self.store.uri}/{attempt_prefix(self.trial)}"
