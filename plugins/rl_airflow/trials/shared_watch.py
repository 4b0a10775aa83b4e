"""Looks at many trials with few calls, for the triggers that wait for them.

All triggers of one triggerer that watch the same environment share one :class:`SharedWatch`. They
wake up at the same times (:func:`until_next`), and the first one looks for all of them. A look
makes one DescribeInstances call for each thousand running machines. It makes one LIST call if it is
not known which heartbeats are new. It makes a GET call for each of a few heartbeats that are due
and new. The other heartbeats are read at the next looks. The heartbeat of a new training is read
often, that of a long training rarely.
"""

import asyncio
import logging
import math
import time
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from rl_airflow.machines.instances import KnownMachines, Machines
from rl_lifecycle.aws_errors import may_pass
from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.machines.ledger import Ledger
from rl_lifecycle.storage.layout import HEARTBEATS, TrialId, heartbeat_key, heartbeat_prefix
from rl_lifecycle.storage.object_store import ObjectStore
from rl_lifecycle.trials.evidence import Machine
from rl_lifecycle.trials.heartbeats import Heartbeat

log = logging.getLogger(__name__)

T = TypeVar("T")

#: With more runs than this, one LIST of all heartbeats is cheaper than one for each run.
MOST_PREFIXES = 10
#: Triggers that ask within this time of the first one share its look, seconds.
GATHER_S = 0.05
#: Triggers that have lines to log within this time of the first one log together, seconds.
LOG_TOGETHER_S = 0.25
#: One look reads at most CALM_READS heartbeats of running machines, or one for every CALM_SHARE
#: trials if that is more. The next looks read the rest. Each is a request of two milliseconds of
#: CPU, and a young machine writes a heartbeat every second.
CALM_READS, CALM_SHARE = 3, 40
#: The shortest time between two LISTs while some heartbeats that are known to be new are unread,
#: seconds.
LISTED_S = 15.0
#: The shortest time between two reads of an object that all trials of a run read (ledger, curves),
#: seconds.
SHARED_S = 5.0
#: After a read, the next one waits at least this many times as long as the read took: the LIST of a
#: large run's curves takes a second of CPU.
REST_FACTOR = 20
#: Values that no trigger has asked for in this time are dropped, seconds.
FORGOTTEN_S = 3600.0


class Wanted(NamedTuple):
    """The machine that one trigger asks about.

    :param refresh_s: the greatest age of a heartbeat while the machine lives, seconds.
    """

    instance_id: str | None
    refresh_s: float = 0.0


class Sighting(NamedTuple):
    """The machine and the heartbeat of a trial, as one look saw them."""

    machine: Machine | None
    heartbeat: Heartbeat | None


class KnownBeat(NamedTuple):
    """A heartbeat, with the ETag and the time of the read."""

    etag: str
    read_at: float
    beat: Heartbeat


class Shared(Generic[T]):
    """A coroutine that runs once and that many tasks wait for. Each task can stop waiting alone.

    `asyncio.shield` does the same for one task. It makes two closures for each wait, and with a
    thousand waits these keep Python's garbage collector busy.
    """

    def __init__(self, doing: Coroutine[Any, Any, T]) -> None:
        self.task = asyncio.ensure_future(doing)
        self._over = asyncio.Event()
        self.task.add_done_callback(self._end)

    def _end(self, task: "asyncio.Task[T]") -> None:
        self._over.set()
        if not task.cancelled():
            task.exception()  # else asyncio logs the exception if no task waits any more

    async def wait(self) -> T:
        """Wait until the coroutine has ended. :return: its result. :raises: its exception."""
        await self._over.wait()
        return self.task.result()


@dataclass
class SharedReading:
    """A read that many triggers share, running or done.

    Times are monotonic seconds. `answered_at` is None while the read is running.
    """

    began_at: float
    answer: Shared[Any]
    answered_at: float | None = None
    failed: bool = False

    def note_answer(self, task: "asyncio.Task[Any]") -> None:
        """Store when the read ended, and whether it failed."""
        self.answered_at, self.failed = (
            time.monotonic(),
            task.cancelled() or task.exception() is not None,
        )

    def is_stale(self, now: float, every_s: float) -> bool:
        """Whether to read again. The answer is no while a read is running. The wait is short
        after a failure, and long after a slow read.
        """
        if self.answered_at is None:
            return False
        took_s = self.answered_at - self.began_at
        return now - self.answered_at >= (
            min(every_s, SHARED_S) if self.failed else max(every_s, REST_FACTOR * took_s)
        )


class TrialWatch:
    """Looks at many trials of one environment at once, and caches their heartbeats.

    Each seat of a trial counts as a trial here.

    :param clock: monotonic seconds.
    """

    def __init__(
        self, store: ObjectStore, machines: Machines, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.store, self.machines, self.clock = store, KnownMachines(machines), clock
        self._beats: dict[str, KnownBeat] = {}
        self._unreadable: dict[str, str] = {}
        self._changed: dict[TrialId, str] = {}  # the ETags of heartbeats that were not read yet
        self._listed_at = -math.inf
        self._asked_at: dict[str, float] = {}
        self._forgot_at = clock()

    def look(self, trials: Mapping[TrialId, Wanted]) -> dict[TrialId, Sighting]:
        """Look at trials."""
        self._forget({heartbeat_key(trial) for trial in trials})
        machines = self._look_at_machines(
            [wanted.instance_id for wanted in trials.values() if wanted.instance_id]
        )
        seen = {
            trial: machines.get(wanted.instance_id) if wanted.instance_id else None
            for trial, wanted in trials.items()
        }
        # A machine that is no longer alive wrote the reason into its heartbeat: read that at once.
        # The others take turns.
        urgent = {
            trial
            for trial, machine in seen.items()
            if machine is not None and not machine.state.alive
        }
        due = [
            trial
            for trial, wanted in trials.items()
            if trial in urgent or self._is_due(trial, wanted)
        ]
        if urgent or self._must_list(due):
            self._list(due)
        waiting = [trial for trial in due if trial in self._changed]
        calm = sorted((trial for trial in waiting if trial not in urgent), key=self._read_at)
        for trial in (
            *urgent.intersection(waiting),
            *calm[: max(CALM_READS, len(trials) // CALM_SHARE)],
        ):
            self._read(trial)
        return {trial: Sighting(machine, self._known(trial)) for trial, machine in seen.items()}

    def _look_at_machines(self, instance_ids: Iterable[str]) -> Mapping[str, Machine]:
        """Look at machines. While EC2 does not answer, the heartbeats are still read."""
        try:
            return self.machines.look(instance_ids)
        except Exception as error:  # the errors that may pass have several types
            if not may_pass(error):
                raise
            log.warning("EC2 does not answer for now, so only heartbeats are seen: %s", error)
            return {}

    def _must_list(self, due: Sequence[TrialId]) -> bool:
        """Whether a LIST is needed to find new heartbeats. It is not needed if all due trials are
        known to have one. It is also not needed if some have one and the last LIST is recent.
        """
        unknown = sum(trial not in self._changed for trial in due)
        return unknown > 0 and (unknown == len(due) or self.clock() - self._listed_at >= LISTED_S)

    def _list(self, due: Sequence[TrialId]) -> None:
        """Find the trials with new heartbeats."""
        self._listed_at = self.clock()
        etags = {
            item.key: item.etag for prefix in prefixes_of(due) for item in self.store.list(prefix)
        }
        for trial in due:
            self._changed.pop(trial, None)
            etag = etags.get(heartbeat_key(trial))
            if etag is not None and self._is_new(trial, etag):
                self._changed[trial] = etag

    def _forget(self, asked: Iterable[str]) -> None:
        """Drop heartbeats that no trigger asked for in an hour, because a triggerer runs for
        months.
        """
        now = self.clock()
        self._asked_at.update(dict.fromkeys(asked, now))
        if now - self._forgot_at < FORGOTTEN_S:
            return
        self._forgot_at = now
        self._asked_at = {key: at for key, at in self._asked_at.items() if now - at < FORGOTTEN_S}
        self._beats = {key: beat for key, beat in self._beats.items() if key in self._asked_at}
        self._unreadable = {
            key: etag for key, etag in self._unreadable.items() if key in self._asked_at
        }
        self._changed.clear()
        self.machines.forget_all()

    def _is_new(self, trial: TrialId, etag: str) -> bool:
        key = heartbeat_key(trial)
        known = self._beats.get(key)
        return (known is None or known.etag != etag) and self._unreadable.get(key) != etag

    def _is_due(self, trial: TrialId, wanted: Wanted) -> bool:
        return self.clock() - self._read_at(trial) >= wanted.refresh_s

    def _read_at(self, trial: TrialId) -> float:
        known = self._beats.get(heartbeat_key(trial))
        return known.read_at if known is not None else -math.inf

    def _read(self, trial: TrialId) -> None:
        key, etag = heartbeat_key(trial), self._changed.pop(trial)
        try:
            found = self.store.find(key)
            if found is None:
                return
            etag = found.etag
            self._beats[key] = KnownBeat(etag, self.clock(), Heartbeat.from_json(found.data, key))
        except InvalidRecordError as error:  # the other trials are still read
            if key not in self._unreadable:
                log.warning("%s; the last known heartbeat is used", error)
            self._unreadable[key] = etag

    def _known(self, trial: TrialId) -> Heartbeat | None:
        known = self._beats.get(heartbeat_key(trial))
        return known.beat if known is not None else None


class SharedWatch:
    """The watch of one environment, shared by all triggers of an event loop."""

    def __init__(self, make: Callable[[], TrialWatch]) -> None:
        self._make = make
        self._watch: TrialWatch | None = None
        self._asked: dict[TrialId, Wanted] = {}
        self._next: Shared[dict[TrialId, Sighting]] | None = None
        self._logging: Shared[None] | None = None
        self._lock = asyncio.Lock()
        self._readings: dict[str, SharedReading] = {}

    async def look(self, trial: TrialId, wanted: Wanted) -> Sighting:
        """Look at one trial, together with all triggers that ask at about the same time."""
        self._asked[trial] = wanted
        if self._next is None or self._next.task.done():
            self._next = Shared(self._look_for_all())
        return (await self._next.wait())[trial]

    async def _look_for_all(self) -> dict[TrialId, Sighting]:
        await asyncio.sleep(GATHER_S)
        asked, self._asked, self._next = self._asked, {}, None
        async with self._lock:  # a slow look is not overtaken by the next
            return await asyncio.to_thread(self._look, asked)

    async def moment_to_log(self) -> None:
        """Wait until it is time to log, together with all triggers that have lines to log.

        Airflow's triggerer asks its database for all its triggers each time when lines come from
        the process that runs them.
        """
        if self._logging is None or self._logging.task.done():
            self._logging = Shared(asyncio.sleep(LOG_TOGETHER_S))
        await self._logging.wait()

    async def read(self, reading: Callable[[ObjectStore], T]) -> T:
        """Read from the same store."""
        return await asyncio.to_thread(lambda: reading(self._made().store))

    async def read_once(
        self, name: str, reading: Callable[[ObjectStore], T], every_s: float = SHARED_S
    ) -> T:
        """Read from the same store, once for all triggers that ask under the same name.

        :param every_s: the shortest time until the next read, seconds. It is longer if the read was
            slow.
        """
        known, now = self._readings.get(name), time.monotonic()
        if known is None or known.is_stale(now, every_s):
            self._readings = {
                key: one for key, one in self._readings.items() if now - one.began_at < FORGOTTEN_S
            }
            known = self._readings[name] = SharedReading(now, Shared(self.read(reading)))
            known.answer.task.add_done_callback(known.note_answer)
        answer: T = await known.answer.wait()
        return answer

    async def read_ledger(self, key: str) -> Ledger | None:
        """Read a run's ledger; None if the run has spent nothing yet."""
        return await self.read_once(key, lambda store: read_ledger(store, key), SHARED_S)

    def _made(self) -> TrialWatch:
        if self._watch is None:
            self._watch = self._make()
        return self._watch

    def _look(self, asked: Mapping[TrialId, Wanted]) -> dict[TrialId, Sighting]:
        return self._made().look(asked)


def read_ledger(store: ObjectStore, key: str) -> Ledger | None:
    """Read a ledger; None if it does not exist."""
    found = store.find(key)
    return Ledger.from_json(found.data, key) if found else None


WatchKey = tuple[str | None, ...]
_SHARED: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[WatchKey, SharedWatch]]" = (
    weakref.WeakKeyDictionary()
)


def shared_watch(key: WatchKey, make: Callable[[], TrialWatch]) -> SharedWatch:
    """Return the running event loop's watch for a key, and make it at the first call.

    :param key: distinguishes watches: environment, bucket, region and connection.
    """
    watches = _SHARED.setdefault(asyncio.get_running_loop(), {})
    if key not in watches:
        watches[key] = SharedWatch(make)
    return watches[key]


def prefixes_of(trials: Iterable[TrialId]) -> list[str]:
    """Return the prefixes of heartbeats to list: one per run, or one for all if there are many."""
    prefixes = sorted({heartbeat_prefix(trial.experiment, trial.run) for trial in trials})
    return prefixes if len(prefixes) <= MOST_PREFIXES else [HEARTBEATS]


def until_next(pause_s: float, now: float) -> float:
    """Return the seconds to sleep, so that all triggers with the same pause wake up together.

    The result is at least half a pause.

    >>> until_next(10.0, 103.0), until_next(10.0, 109.0)
    (7.0, 11.0)
    """
    step = 2.0 ** round(math.log2(pause_s)) if pause_s < 8 else round(pause_s)
    left = step - now % step
    return left if left >= step / 2 else left + step
