"""Looking without acting: what triggers see of their trials, with calls that grow by the thousand
and not by the trial.

All triggers of one triggerer that watch the same environment share one :class:`SharedWatch`. They
wake up at the same moments (:func:`until_next`), and whoever asks first looks for all: one
DescribeInstances a thousand machines that run, one LIST of heartbeats when it is not known which
are new, and a GET for the few that are due *and* new, in turns. A long training is read seldom, a
young one often.
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
from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.machines.ledger import Ledger
from rl_lifecycle.storage.layout import HEARTBEATS, TrialId, heartbeat_key, heartbeat_prefix
from rl_lifecycle.storage.stores import ObjectStore
from rl_lifecycle.trials.evidence import Machine
from rl_lifecycle.trials.heartbeats import Heartbeat

log = logging.getLogger(__name__)

T = TypeVar("T")

#: With more runs than this, one LIST of all heartbeats is cheaper than one for each run.
MOST_PREFIXES = 10
#: Who asks within this time of the first looks together with it.
GATHER_S = 0.05
#: Who has lines to log within this time of the first logs them together with it.
LOG_TOGETHER_S = 0.25
#: So many heartbeats of machines that simply run are read in one look, or one in so many of the
#: trials if that is more; the rest is read at the next looks. Each is a request of two milliseconds
#: of CPU, and a young machine speaks every second.
CALM_READS, CALM_SHARE = 3, 40
#: While there are heartbeats to read of which a LIST has said that they are new, it is asked for
#: the others so seldom, seconds.
LISTED_S = 15.0
#: What all trials of a run read alike (its ledger, its curves) is read at most so often, however
#: many ask.
SHARED_S = 5.0
#: And a reading rests so many times as long as it took: the LIST of a large run's curves takes a
#: second of CPU.
REST_FACTOR = 20
#: What nobody has asked for that long is forgotten.
FORGOTTEN_S = 3600.0


class Wanted(NamedTuple):
    """What one trigger wants to know.
    :param refresh_s: how old a heartbeat may be while the machine lives.
    """

    instance_id: str | None
    refresh_s: float = 0.0


class Sighting(NamedTuple):
    """What was seen of a trial."""

    machine: Machine | None
    heartbeat: Heartbeat | None


class KnownBeat(NamedTuple):
    """A heartbeat, as it was when it was read."""

    etag: str
    read_at: float
    beat: Heartbeat


class Shared(Generic[T]):
    """What many wait for, and is done once; each of them may give up alone.

    As `asyncio.shield` does it for one: that makes two closures for each who waits, which for a
    thousand of them keep Python's garbage collector busy.
    """

    def __init__(self, doing: Coroutine[Any, Any, T]) -> None:
        self.task = asyncio.ensure_future(doing)
        self._over = asyncio.Event()
        self.task.add_done_callback(self._end)

    def _end(self, task: "asyncio.Task[T]") -> None:
        self._over.set()
        if not task.cancelled():
            task.exception()  # else asyncio complains of it where everybody has given up

    async def wait(self) -> T:
        """Wait until it is done. :return: its answer. :raises: what it raised."""
        await self._over.wait()
        return self.task.result()


@dataclass
class SharedReading:
    """What is being read for many, or was. Times are seconds that only grow; `answered_at`: None
    while it is being read.
    """

    began_at: float
    answer: Shared[Any]
    answered_at: float | None = None
    failed: bool = False

    def note_answer(self, task: "asyncio.Task[Any]") -> None:
        """Keep when the answer came, and whether it is one."""
        self.answered_at, self.failed = (
            time.monotonic(),
            task.cancelled() or task.exception() is not None,
        )

    def is_stale(self, now: float, every_s: float) -> bool:
        """Whether it must be read again: never while it is being read; what failed is not kept for
        long, what took long is.
        """
        if self.answered_at is None:
            return False
        took_s = self.answered_at - self.began_at
        return now - self.answered_at >= (
            min(every_s, SHARED_S) if self.failed else max(every_s, REST_FACTOR * took_s)
        )


class TrialWatch:
    """Looks at many trials of one environment at once, and remembers what it has read.

    :param clock: seconds that only grow.
    """

    def __init__(
        self, store: ObjectStore, machines: Machines, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.store, self.machines, self.clock = store, KnownMachines(machines), clock
        self._beats: dict[str, KnownBeat] = {}
        self._unreadable: dict[str, str] = {}
        self._changed: set[TrialId] = set()
        self._listed_at = -math.inf
        self._asked_at: dict[str, float] = {}
        self._forgot_at = clock()

    def look(self, trials: Mapping[TrialId, Wanted]) -> dict[TrialId, Sighting]:
        """Look at trials."""
        self._forget({heartbeat_key(trial) for trial in trials})
        machines = self.machines.look(
            wanted.instance_id for wanted in trials.values() if wanted.instance_id
        )
        seen = {
            trial: machines.get(wanted.instance_id) if wanted.instance_id else None
            for trial, wanted in trials.items()
        }
        # A machine that is no longer simply running has said why: that is read at once. The others
        # take turns.
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

    def _must_list(self, due: Sequence[TrialId]) -> bool:
        """Whether only a LIST can say what there is to read: not while it is known of all, or of
        some and since a moment ago.
        """
        unknown = sum(trial not in self._changed for trial in due)
        return unknown > 0 and (unknown == len(due) or self.clock() - self._listed_at >= LISTED_S)

    def _list(self, due: Sequence[TrialId]) -> None:
        """Note whose heartbeats are new."""
        self._listed_at = self.clock()
        etags = {
            item.key: item.etag for prefix in prefixes_of(due) for item in self.store.list(prefix)
        }
        self._changed.difference_update(due)
        self._changed.update(trial for trial in due if self._is_new(trial, etags))

    def _forget(self, asked: Iterable[str]) -> None:
        """Forget the heartbeats that nobody has asked for in an hour: a triggerer lives for
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

    def _is_new(self, trial: TrialId, etags: Mapping[str, str]) -> bool:
        key = heartbeat_key(trial)
        known, etag = self._beats.get(key), etags.get(key)
        return (
            etag is not None
            and (known is None or known.etag != etag)
            and self._unreadable.get(key) != etag
        )

    def _is_due(self, trial: TrialId, wanted: Wanted) -> bool:
        return self.clock() - self._read_at(trial) >= wanted.refresh_s

    def _read_at(self, trial: TrialId) -> float:
        known = self._beats.get(heartbeat_key(trial))
        return known.read_at if known is not None else -math.inf

    def _read(self, trial: TrialId) -> None:
        self._changed.discard(trial)
        key = heartbeat_key(trial)
        found = self.store.find(key)
        if found is None:
            return
        try:
            self._beats[key] = KnownBeat(
                found.etag, self.clock(), Heartbeat.from_json(found.data, key)
            )
        except (
            InvalidRecordError
        ) as error:  # one trial's, and no reason to see nothing of the others
            if key not in self._unreadable:
                log.warning("%s; going by what was known before", error)
            self._unreadable[key] = found.etag

    def _known(self, trial: TrialId) -> Heartbeat | None:
        known = self._beats.get(heartbeat_key(trial))
        return known.beat if known is not None else None


class SharedWatch:
    """One watch for all triggers of an event loop that look at the same environment."""

    def __init__(self, make: Callable[[], TrialWatch]) -> None:
        self._make = make
        self._watch: TrialWatch | None = None
        self._asked: dict[TrialId, Wanted] = {}
        self._next: Shared[dict[TrialId, Sighting]] | None = None
        self._logging: Shared[None] | None = None
        self._lock = asyncio.Lock()
        self._readings: dict[str, SharedReading] = {}

    async def look(self, trial: TrialId, wanted: Wanted) -> Sighting:
        """Look at one trial, together with all who ask at about the same time."""
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
        """Wait for the moment at which all who have something to log now log it.

        Airflow's triggerer asks its database for all its triggers whenever a line, or a handful at
        once, comes from the process that runs them.
        """
        if self._logging is None or self._logging.task.done():
            self._logging = Shared(asyncio.sleep(LOG_TOGETHER_S))
        await self._logging.wait()

    async def read(self, reading: Callable[[ObjectStore], T]) -> T:
        """Read something else from the same store."""
        return await asyncio.to_thread(lambda: reading(self._made().store))

    async def read_once(
        self, name: str, reading: Callable[[ObjectStore], T], every_s: float = SHARED_S
    ) -> T:
        """Read something from the same store, once for all who ask for it under one name.

        :param every_s: for how long after the answer it is not read again, seconds; longer if the
            reading took long.
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
        """Read a run's ledger; None if nothing was spent yet."""
        return await self.read_once(key, lambda store: read_ledger(store, key), SHARED_S)

    def _made(self) -> TrialWatch:
        if self._watch is None:
            self._watch = self._make()
        return self._watch

    def _look(self, asked: Mapping[TrialId, Wanted]) -> dict[TrialId, Sighting]:
        return self._made().look(asked)


def read_ledger(store: ObjectStore, key: str) -> Ledger | None:
    """Read a ledger, if it is there."""
    found = store.find(key)
    return Ledger.from_json(found.data, key) if found else None


WatchKey = tuple[str | None, ...]
_SHARED: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[WatchKey, SharedWatch]]" = (
    weakref.WeakKeyDictionary()
)


def shared_watch(key: WatchKey, make: Callable[[], TrialWatch]) -> SharedWatch:
    """Find the running event loop's watch of a place, or make it.

    :param key: what tells watches apart: environment, bucket, region, connection.
    """
    watches = _SHARED.setdefault(asyncio.get_running_loop(), {})
    if key not in watches:
        watches[key] = SharedWatch(make)
    return watches[key]


def prefixes_of(trials: Iterable[TrialId]) -> list[str]:
    """What to list to see the heartbeats of trials: each run's, or all when there are many runs."""
    prefixes = sorted({heartbeat_prefix(trial.experiment, trial.run) for trial in trials})
    return prefixes if len(prefixes) <= MOST_PREFIXES else [HEARTBEATS]


def until_next(pause_s: float, now: float) -> float:
    """How long to sleep so that all who pause alike wake up together, at least half a pause.

    >>> until_next(10.0, 103.0), until_next(10.0, 109.0)
    (7.0, 11.0)
    """
    step = 2.0 ** round(math.log2(pause_s)) if pause_s < 8 else round(pause_s)
    left = step - now % step
    return left if left >= step / 2 else left + step
