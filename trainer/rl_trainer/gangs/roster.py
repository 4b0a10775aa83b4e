"""The learner's view of the other machines of its trial, through the bucket."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NamedTuple

from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.storage.layout import TrialId, gang_key, head_key, heartbeat_key
from rl_lifecycle.storage.object_store import ObjectStore, put_once
from rl_lifecycle.trials.checkpoints import Head
from rl_lifecycle.trials.gangs import Announcement, Generation, Member
from rl_lifecycle.trials.heartbeats import Heartbeat, TrainerState
from rl_trainer.errors import FencedError
from rl_trainer.gangs.transport import Rendezvous

NO_MACHINES: Mapping[int, str] = MappingProxyType({})
#: What a machine reports while it may be called.
CALLABLE = (TrainerState.WAITING, TrainerState.TRAINING)


@dataclass(frozen=True)
class FoundMachine:
    """A machine that may be called."""

    seat: int
    announcement: Announcement


@dataclass(frozen=True)
class Start:
    """What a generation begins with.

    :param manifest: key of the checkpoint before it; empty at the beginning.
    :param manifest_sha256: SHA-256 of that manifest.
    """

    segment: int
    manifest: str = ""
    manifest_sha256: str = ""


class _Seen(NamedTuple):
    """The announcement of a machine, and whether its heartbeat has changed since the first look."""

    etag: str
    announcement: Announcement
    changed: bool


class Roster:
    """Finds machines that may collect, and calls them.

    :param n_machines: the trial's machines, the learner's included.
    :param collectors_class: name of the numeric class of all that collect; None: that of the first
        machine that is found.
    :param any_class: take machines of every numeric class.
    """

    def __init__(
        self,
        store: ObjectStore,
        trial: TrialId,
        attempt: int,
        n_machines: int,
        collectors_class: str | None,
        *,
        any_class: bool = False,
    ) -> None:
        self._store, self._trial, self._attempt = store, trial.whole, attempt
        self.seats = range(1, n_machines)
        self.collectors_class, self._any_class = collectors_class, any_class
        self.generation = 0
        self._absent: dict[int, str] = {}
        self._seen: dict[int, _Seen] = {}

    @property
    def name(self) -> str:
        """The name of the newest generation, as members that have left it announce it."""
        return f"{self._attempt}-{self.generation}"

    def find(self, called: Mapping[int, str] = NO_MACHINES) -> list[FoundMachine]:
        """Read the heartbeats of all seats, and return those that may be called now.

        A heartbeat may be that of a machine that is gone. So it counts only if it has changed since
        this learner has first seen it.

        :param called: seats of the newest generation and their nonces. Such a machine may be called
            again after it has left.
        """
        found = []
        for seat in self.seats:
            seen = self._look_at(seat)
            if seen is None or seen.announcement.leaving:
                continue
            announcement = seen.announcement
            left = announcement.left == self.name
            if self._absent.get(seat) == announcement.mark or not (left or seen.changed):
                continue
            if called.get(seat) == announcement.nonce and not left:
                continue
            if self.collectors_class is None:
                self.collectors_class = announcement.numeric_class
            if self._any_class or announcement.numeric_class == self.collectors_class:
                found.append(FoundMachine(seat, announcement))
        return found

    def _look_at(self, seat: int) -> "_Seen | None":
        """Read the heartbeat of a seat."""
        key = heartbeat_key(self._trial.at_seat(seat))
        before = self._seen.get(seat)
        try:
            found = self._store.find(key)
            beat = Heartbeat.from_json(found.data, key) if found is not None else None
        except InvalidRecordError:  # the launcher reports it
            return None
        if found is None or beat is None or beat.announcement is None or beat.state not in CALLABLE:
            self._seen.pop(seat, None)
            return None
        changed = before is not None and (before.changed or before.etag != found.etag)
        self._seen[seat] = seen = _Seen(found.etag, beat.announcement, changed)
        return seen

    def set_aside(self, nonces: Mapping[int, str]) -> None:
        """Do not call machines again before they announce themselves anew.

        :param nonces: seat → nonce. Another machine at such a seat may be called.
        """
        for seat, nonce in nonces.items():
            seen = self._seen.get(seat)
            if seen is not None and seen.announcement.nonce == nonce:
                self._absent[seat] = seen.announcement.mark

    def call(
        self, meeting: Rendezvous, members: Sequence[Member], shards: Sequence[int], start: Start
    ) -> None:
        """Write the next generation. Its members then join.

        :raises FencedError: if it exists, because only a later learner of this attempt wrote it.
        """
        self.generation += 1
        generation = Generation(
            attempt=self._attempt,
            generation=self.generation,
            at=datetime.now(UTC),
            address=meeting.address,
            port=meeting.port,
            collectors_class=self.collectors_class or "",
            segment=start.segment,
            manifest=start.manifest,
            manifest_sha256=start.manifest_sha256,
            members=tuple(members),
            shards=tuple(shards),
        )
        key = gang_key(self._trial, self._attempt, self.generation)
        if not put_once(self._store, key, generation.to_json()):
            raise FencedError(f"{key} exists, so another process has taken over this attempt")


class GenerationFinder:
    """A collector's view: finds the newest generation of its trial.

    :param clock: monotonic seconds.
    """

    #: Seconds between two looks at which attempt has the head.
    HEAD_S = 3.0

    def __init__(
        self, store: ObjectStore, trial: TrialId, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._trial, self._clock = store, trial.whole, clock
        self._at = (0, 0)  # the newest known: the learner's attempt, and the generation
        self._newest: Generation | None = None
        self._attempts_at = -self.HEAD_S

    def look(self) -> Generation | None:
        """Return the newest generation of the attempt that has the head; None if it has none.

        Generations of an attempt have no gaps, so mostly one GET of a missing key is enough.

        :raises LifecycleError: if the store does not answer.
        """
        if self._clock() - self._attempts_at >= self.HEAD_S:
            self._attempts_at = self._clock()
            if (attempt := self._attempt_of_head()) > self._at[0]:
                self._at, self._newest = (attempt, 0), None
        while self._at[0] and self._follow(self._at[0], self._at[1] + 1):
            pass
        return self._newest

    def _attempt_of_head(self) -> int:
        key = head_key(self._trial)
        found = self._store.find(key)
        return Head.from_json(found.data, key).attempt if found is not None else 0

    def _follow(self, attempt: int, generation: int) -> bool:
        key = gang_key(self._trial, attempt, generation)
        found = self._store.find(key)
        if found is None:
            return False
        self._newest = Generation.from_json(found.data, key)
        self._at = (attempt, generation)
        return True
