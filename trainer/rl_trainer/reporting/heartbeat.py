"""Heartbeats: the training loop reports its progress, and a thread writes it to the store.

The thread writes every second at first, and less often later. It writes only after a new report of
the loop, so a loop that hangs sends no heartbeats. A heartbeat is written with If-Match, like the
head. So an old attempt that still runs cannot overwrite the heartbeat of its successor.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from rl_lifecycle.errors import LifecycleError, PreconditionFailedError
from rl_lifecycle.storage.layout import TrialId, heartbeat_key
from rl_lifecycle.storage.object_store import ObjectStore
from rl_lifecycle.trials.heartbeats import Heartbeat

#: Shortest and longest time between two heartbeats, in seconds. Every heartbeat is a request that
#: costs money. They are frequent only at first, while a person may be watching.
SHORTEST_S, LONGEST_S = 1.0, 15.0
#: The interval is the trainer's age divided by this number: 5 s after five minutes.
LONGER_EVERY_S = 60.0


def interval_s(age_s: float) -> float:
    """Return the seconds between two heartbeats of a trainer of this age.

    >>> [interval_s(age) for age in (0, 60, 300, 86_400)]
    [1.0, 1.0, 5.0, 15.0]
    """
    return min(LONGEST_S, max(SHORTEST_S, age_s / LONGER_EVERY_S))


class HeartbeatThread:
    """Writes the newest heartbeat that was reported.

    :param store: a store that does not wait. A heartbeat that cannot be written is dropped,
        because the next one is newer.
    :param now: the clock; returns an aware UTC datetime.
    """

    def __init__(
        self,
        store: ObjectStore,
        trial: TrialId,
        attempt: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.store, self.key, self.attempt, self.now = store, heartbeat_key(trial), attempt, now
        self.fenced = threading.Event()
        self._newest: Heartbeat | None = None
        self._etag: str | None = None
        self._changed = threading.Condition()
        self._closing = self._urgent = False
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)
        self._thread.start()

    def report(self, beat: Heartbeat, *, at_once: bool = False) -> None:
        """Replace the heartbeat that is written next.

        :param at_once: write it without the usual pause, because a learner waits for it.
        """
        with self._changed:
            self._newest, self._urgent = beat, self._urgent or at_once
            self._changed.notify()

    def close(self, last: Heartbeat | None = None, timeout_s: float = 20.0) -> None:
        """Write the last heartbeat, and end the thread.

        If a later attempt has taken over, nothing is written, because the key belongs to it.

        :param timeout_s: how long to wait for the thread, in seconds.
        """
        with self._changed:
            self._newest = last or self._newest
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest is not None or self._closing)
                beat, self._newest, self._urgent = self._newest, None, False
                closing = self._closing
            if beat is not None and not self.fenced.is_set():
                self._write(beat, attempts=5 if closing else 3)
            if closing and self._newest is None:
                return
            self._pause()

    def _pause(self) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._closing or self._urgent,
                timeout=interval_s(time.monotonic() - self._began),
            )

    def _write(self, beat: Heartbeat, attempts: int) -> None:
        for _ in range(attempts):
            try:
                self._etag = self.store.put(
                    self.key, beat.to_json(), if_match=self._etag, if_none_match=self._etag is None
                )
                return
            except PreconditionFailedError:
                if self._belongs_to_successor():
                    self.fenced.set()
                    return
            except LifecycleError:
                time.sleep(0.2)

    def _belongs_to_successor(self) -> bool:
        """Tell whether a later attempt wrote the stored heartbeat; otherwise remember its ETag."""
        try:
            found = self.store.find(self.key)
        except LifecycleError:
            return False
        self._etag = found.etag if found else None
        return (
            found is not None and Heartbeat.from_json(found.data, self.key).attempt > self.attempt
        )
