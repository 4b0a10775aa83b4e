"""Watching many trials: few calls, heartbeats read when due, one look for all callers."""

import asyncio
import itertools
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from rl_airflow.machines.instances import Machines
from rl_airflow.trials.shared_watch import (
    CALM_READS,
    SharedWatch,
    Sighting,
    TrialWatch,
    Wanted,
    shared_watch,
    until_next,
)
from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.storage.layout import TrialId, heartbeat_key
from rl_lifecycle.storage.object_store import ObjectInfo, StoredObject
from rl_lifecycle.trials.heartbeats import Heartbeat, TrainerState
from tests.plugins.fake_ec2 import FakeEc2, FakeMachine
from tests.plugins.worlds import START, FakeStore


class FakeCountingStore(FakeStore):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.gets = self.lists = 0
        self.unreadable = ""

    def find(self, key: str) -> StoredObject | None:
        """Read a key."""
        self.gets += 1
        if key == self.unreadable:
            raise InvalidRecordError(key, "cannot be read: InvalidObjectState")
        return super().find(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List keys."""
        self.lists += 1
        return super().list(prefix)


class Crowd:
    """Many machines that train."""

    def __init__(self, count: int, runs: int = 1) -> None:
        self.store, self.ec2, self.seconds = FakeCountingStore(), FakeEc2(lambda: START), 0.0
        self.watch = TrialWatch(self.store, Machines(self.ec2, "dev"), clock=lambda: self.seconds)
        self.trials: dict[TrialId, str] = {}
        for number in range(count):
            trial = TrialId("e", f"r{number % runs}", f"seed-{number}")
            instance_id = f"i-{number:017x}"
            self.ec2.machines[instance_id] = FakeMachine(
                instance_id, "c6i.large", "subnet-a", "spot", {}, START
            )
            self.trials[trial] = instance_id
        self.beat(1)

    def beat(self, step: int) -> None:
        """Let every machine write a new heartbeat."""
        for trial in self.trials:
            beat = Heartbeat(
                attempt=1,
                state=TrainerState.TRAINING,
                step=step,
                total_timesteps=10**6,
                steps_per_s=10.0,
                at=START + timedelta(seconds=step),
            )
            self.store.put(heartbeat_key(trial), beat.to_json())

    def wanted(self, refresh_s: float) -> dict[TrialId, Wanted]:
        """All trials of the crowd."""
        return {trial: Wanted(instance_id, refresh_s) for trial, instance_id in self.trials.items()}

    def look(self, refresh_s: float = 0.0) -> dict[TrialId, Sighting]:
        """Look once, with the counters reset."""
        self.ec2.calls.clear()
        self.store.gets = self.store.lists = 0
        return self.watch.look(self.wanted(refresh_s))

    def get_to_know(self) -> None:
        """Look until every heartbeat was read once."""
        while not all(look.heartbeat for look in self.look().values()):
            pass


def test_a_thousand_trials_are_one_describe_and_at_most_one_list_a_poll() -> None:
    """A heartbeat that was just read is not read again while its machine lives."""
    crowd = Crowd(1000)
    crowd.get_to_know()
    for step in range(2, 5):
        crowd.seconds += 15
        crowd.beat(step)
        crowd.look(refresh_s=300)
        assert (crowd.ec2.calls, crowd.store.lists, crowd.store.gets) == (
            ["DescribeInstances"],
            0,
            0,
        )
    crowd.seconds += 300
    crowd.look(refresh_s=300)
    assert (crowd.ec2.calls, crowd.store.lists, crowd.store.gets) == (["DescribeInstances"], 1, 25)


def test_a_machine_that_runs_is_read_whole_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines are described 200 at a time, EC2's limit, and later only if they stopped."""
    crowd, sizes, real = Crowd(1000), list[int](), FakeEc2.describe_instances

    def describe(ec2: FakeEc2, **request: object) -> dict[str, Any]:
        answer = real(ec2, **request)
        sizes.append(len(answer["Reservations"]))
        return answer

    monkeypatch.setattr(FakeEc2, "describe_instances", describe)
    crowd.look()
    assert sizes == [200] * 5
    trial, instance_id = next(iter(crowd.trials.items()))
    crowd.ec2.end(instance_id, "Server.SpotInstanceTermination")
    for turn in (1, 2):
        ended = [
            one
            for one, look in crowd.look().items()
            if look.machine and not look.machine.state.alive
        ]
        assert (ended, sum(sizes[5:])) == ([trial], turn)


def test_a_machine_that_ec2_shows_no_more_hides_no_other() -> None:
    """A machine that EC2 forgot, or does not show yet, does not hide the others."""
    crowd = Crowd(3)
    crowd.look()
    first, second, third = crowd.ec2.machines.values()
    first.hidden = True
    second.state = "terminated"
    for _ in range(2):
        states = [look.machine.state if look.machine else None for look in crowd.look().values()]
        assert states == [None, "terminated", "running"]
    first.hidden = False
    assert all(look.machine for look in crowd.look().values())
    assert third.state == "running"


def test_trials_that_are_no_longer_requested_are_forgotten() -> None:
    """A triggerer runs for months with new trials each night."""
    crowd = Crowd(20)
    crowd.get_to_know()
    stays = next(iter(crowd.trials))
    for _ in range(3):
        crowd.seconds += 1801
        crowd.watch.look({stays: Wanted(crowd.trials[stays], 10**6)})
    known = {trial for trial, look in crowd.look(refresh_s=10**6).items() if look.heartbeat}
    assert (stays in known, crowd.store.gets, len(known)) == (True, CALM_READS, CALM_READS + 1)


def test_calls_grow_by_the_thousand() -> None:
    """2,500 machines need three calls."""
    crowd = Crowd(2500)
    crowd.get_to_know()
    crowd.seconds += 400
    crowd.look(refresh_s=300)
    assert (len(crowd.ec2.calls), crowd.store.lists) == (3, 1)


def test_many_runs_are_listed_at_once() -> None:
    """A thousand runs of one trial share their LISTs."""
    crowd = Crowd(200, runs=200)
    crowd.look()
    assert crowd.store.lists == 1


def test_new_heartbeats_of_many_machines_are_read_in_turns() -> None:
    """A hundred new heartbeats are read over several looks, the longest unread first."""
    crowd = Crowd(100)
    crowd.look()
    assert crowd.store.gets == CALM_READS
    for _ in range(100 // CALM_READS):
        crowd.seconds += 4
        crowd.look()
        assert crowd.store.gets <= CALM_READS
    crowd.beat(9)
    crowd.seconds += 4
    looks = crowd.look()
    assert (
        sum(look.heartbeat is not None and look.heartbeat.step == 9 for look in looks.values())
        == CALM_READS
    )
    assert all(look.heartbeat is not None for look in looks.values())


def test_new_heartbeats_of_a_list_are_read_before_another_list() -> None:
    """A machine that was launched after the LIST waits at most fifteen seconds."""
    crowd = Crowd(100)
    lists = []
    for _ in range(100 // CALM_READS):
        crowd.look(refresh_s=3600)
        lists.append(crowd.store.lists)
    assert (sum(lists), crowd.store.gets) == (1, CALM_READS)
    crowd.seconds += 4000
    crowd.beat(2)
    crowd.look(refresh_s=3600)
    newcomer = TrialId("e", "r0", "newcomer")
    crowd.store.put(
        heartbeat_key(newcomer), crowd.store.objects[heartbeat_key(next(iter(crowd.trials)))]
    )
    known = []
    for _ in range(5):
        crowd.seconds += 4
        known.append(
            crowd.watch.look(crowd.wanted(3600) | {newcomer: Wanted(None, 0)})[newcomer].heartbeat
            is not None
        )
    assert known == [False, False, False, True, True]


def test_a_beat_that_is_due_is_read() -> None:
    """A due heartbeat is read only if it changed."""
    crowd = Crowd(3)
    crowd.look()
    crowd.seconds += 400
    crowd.look(refresh_s=300)
    assert crowd.store.gets == 0
    crowd.beat(7)
    assert {
        look.heartbeat.step for look in crowd.look(refresh_s=300).values() if look.heartbeat
    } == {7}
    assert crowd.store.gets == 3


def test_the_last_heartbeat_of_a_terminated_machine_is_read_at_once() -> None:
    """The last heartbeat has the reason of the end, so it is read before it is due."""
    crowd = Crowd(2)
    crowd.look()
    crowd.beat(9)
    trial, instance_id = next(iter(crowd.trials.items()))
    crowd.ec2.end(instance_id, "Server.SpotInstanceTermination")
    looks = crowd.look(refresh_s=300)
    assert looks[trial].heartbeat is not None
    assert looks[trial].heartbeat.step == 9
    assert crowd.store.gets == 1


def test_concurrent_callers_share_one_look() -> None:
    """The hundred triggers of a triggerer share a look."""
    crowd = Crowd(100)

    async def ask() -> list[Sighting]:
        shared = shared_watch(("dev",), lambda: crowd.watch)
        assert shared_watch(("dev",), lambda: crowd.watch) is shared
        return await asyncio.gather(
            *(shared.look(trial, wanted) for trial, wanted in crowd.wanted(0).items())
        )

    looks = asyncio.run(ask())
    assert crowd.ec2.calls == ["DescribeInstances"]
    assert [look.machine.instance_id for look in looks if look.machine] == list(
        crowd.trials.values()
    )


def test_a_failed_look_fails_for_its_callers_and_not_for_later_ones() -> None:
    """Each trigger counts its own failures."""
    crowd, fail = Crowd(3), [True]

    def make() -> TrialWatch:
        if fail[0]:
            raise ConnectionError("no")
        return crowd.watch

    async def ask() -> list[object]:
        shared = SharedWatch(make)
        first = await asyncio.gather(
            *(shared.look(t, w) for t, w in crowd.wanted(0).items()), return_exceptions=True
        )
        fail[0] = False
        second = await asyncio.gather(*(shared.look(t, w) for t, w in crowd.wanted(0).items()))
        return [*first, *second]

    answers = asyncio.run(ask())
    assert [type(answer) for answer in answers[:3]] == [ConnectionError] * 3
    assert all(isinstance(answer, Sighting) for answer in answers[3:])


def test_a_cancelled_caller_does_not_disturb_the_others() -> None:
    """A trigger that is cancelled during a look leaves the others their answer."""
    crowd = Crowd(3)

    async def ask() -> list[object]:
        shared = SharedWatch(lambda: crowd.watch)
        waiting = [
            asyncio.ensure_future(shared.look(trial, wanted))
            for trial, wanted in crowd.wanted(0).items()
        ]
        await asyncio.sleep(0)
        waiting[0].cancel()
        return list(await asyncio.gather(*waiting, return_exceptions=True))

    answers = asyncio.run(ask())
    assert isinstance(answers[0], asyncio.CancelledError)
    assert all(isinstance(answer, Sighting) for answer in answers[1:])
    assert crowd.ec2.calls == ["DescribeInstances"]


def test_findings_of_many_triggers_are_reported_together() -> None:
    """Triggers that wait for the same moment report without other work in between."""
    happened: list[str] = []

    async def tell(shared: SharedWatch, name: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await shared.moment_to_log()
        happened.append(name)

    async def ask() -> None:
        shared = SharedWatch(lambda: Crowd(1).watch)
        beside = asyncio.ensure_future(tick())
        await asyncio.gather(*(tell(shared, f"line {n}", 0.02 * n) for n in range(5)))
        await tell(shared, "later", 0.0)
        beside.cancel()

    async def tick() -> None:
        while True:
            happened.append("tick")
            await asyncio.sleep(0)

    asyncio.run(ask())
    kinds = [kind for kind, _ in itertools.groupby(happened, key=lambda one: one.partition(" ")[0])]
    assert kinds == ["tick", "line", "tick", "later"]
    assert sorted(one for one in happened if one.startswith("line")) == [
        f"line {n}" for n in range(5)
    ]


@pytest.mark.parametrize("pause", [1.0, 1.7, 4.0, 9.3, 15.0])
def test_equal_pauses_end_together(pause: float) -> None:
    """Pauses end within a little more than their length."""
    moments = {
        round((now + until_next(pause, now)) % round(max(pause, 1)), 6)
        for now in (1000.0, 1000.2, 1000.4)
    }
    assert len({round(now + until_next(pause, now), 6) for now in (1000.1, 1000.2, 1000.3)}) == 1, (
        moments
    )
    assert all(pause / 3 <= until_next(pause, 1000 + n / 7) <= 2.1 * pause for n in range(100))


def test_an_unreadable_heartbeat_hides_no_other_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The trial's known state stays, and the heartbeat is read again only after a change."""
    crowd = Crowd(3)
    crowd.look()
    trial = next(iter(crowd.trials))
    crowd.beat(7)
    for garbage in (b"{", b"[]"):
        crowd.store.put(heartbeat_key(trial), garbage)
        looks = crowd.look()
        assert [look.heartbeat.step for look in looks.values() if look.heartbeat] == [1, 7, 7]
        crowd.look()
        assert crowd.store.gets == 0
    assert caplog.text.count("the last known heartbeat is used") == 1
    crowd.beat(9)
    assert {look.heartbeat.step for look in crowd.look().values() if look.heartbeat} == {9}


def test_a_heartbeat_that_nobody_else_can_read_hides_no_other() -> None:
    """A trainer may have archived it. It is read again only after a change."""
    crowd = Crowd(3)
    crowd.look()
    trial = next(iter(crowd.trials))
    crowd.beat(7)
    crowd.store.unreadable = heartbeat_key(trial)
    looks = crowd.look()
    assert [look.heartbeat.step for look in looks.values() if look.heartbeat] == [1, 7, 7]
    crowd.look()
    assert crowd.store.gets == 0
    crowd.store.unreadable = ""
    crowd.beat(9)
    assert {look.heartbeat.step for look in crowd.look().values() if look.heartbeat} == {9}
