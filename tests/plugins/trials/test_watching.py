"""Looking at many trials at once: calls by the thousand, beats read when they are due, one look for
all who ask.
"""

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
from rl_lifecycle.storage.layout import TrialId, heartbeat_key
from rl_lifecycle.storage.stores import ObjectInfo, StoredObject
from rl_lifecycle.trials.heartbeats import Heartbeat, TrainerState
from tests.plugins.fake_ec2 import FakeEc2, FakeMachine
from tests.plugins.worlds import START, MemoryStore


class CountingStore(MemoryStore):
    """Counts what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.gets = self.lists = 0

    def find(self, key: str) -> StoredObject | None:
        """Read a key."""
        self.gets += 1
        return super().find(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List keys."""
        self.lists += 1
        return super().list(prefix)


class Crowd:
    """Many machines that train."""

    def __init__(self, count: int, runs: int = 1) -> None:
        self.store, self.ec2, self.seconds = CountingStore(), FakeEc2(lambda: START), 0.0
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
        """Every machine says something new."""
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
        """All of them."""
        return {trial: Wanted(instance_id, refresh_s) for trial, instance_id in self.trials.items()}

    def look(self, refresh_s: float = 0.0) -> dict[TrialId, Sighting]:
        """Look, and forget what was counted before."""
        self.ec2.calls.clear()
        self.store.gets = self.store.lists = 0
        return self.watch.look(self.wanted(refresh_s))

    def get_to_know(self) -> None:
        """Look until every heartbeat was read once."""
        while not all(look.heartbeat for look in self.look().values()):
            pass


def test_a_thousand_trials_are_one_describe_and_at_most_one_list_a_poll() -> None:
    """However much they say: a beat that was read a moment ago is not read again while its machine
    lives, nor is it looked for.
    """
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
    """At the first look, 200 at a time, which is all that EC2 lets a filter name; afterwards only
    those that do not run any more.
    """
    crowd, told, real = Crowd(1000), list[int](), FakeEc2.describe_instances

    def describe(ec2: FakeEc2, **request: object) -> dict[str, Any]:
        answer = real(ec2, **request)
        told.append(len(answer["Reservations"]))
        return answer

    monkeypatch.setattr(FakeEc2, "describe_instances", describe)
    crowd.look()
    assert told == [200] * 5
    trial, instance_id = next(iter(crowd.trials.items()))
    crowd.ec2.end(instance_id, "Server.SpotInstanceTermination")
    for turn in (1, 2):
        ended = [
            one
            for one, look in crowd.look().items()
            if look.machine and not look.machine.state.alive
        ]
        assert (ended, sum(told[5:])) == ([trial], turn)


def test_a_machine_that_ec2_shows_no_more_hides_no_other() -> None:
    """It forgets terminated machines after an hour, and knows new ones only after moments."""
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


def test_what_nobody_asks_for_any_more_is_forgotten() -> None:
    """A triggerer lives for months, and each night has other trials."""
    crowd = Crowd(20)
    crowd.get_to_know()
    stays = next(iter(crowd.trials))
    for _ in range(3):
        crowd.seconds += 1801
        crowd.watch.look({stays: Wanted(crowd.trials[stays], 10**6)})
    known = {trial for trial, look in crowd.look(refresh_s=10**6).items() if look.heartbeat}
    assert (stays in known, crowd.store.gets, len(known)) == (True, CALM_READS, CALM_READS + 1)


def test_calls_grow_by_the_thousand() -> None:
    """2,500 machines are three calls."""
    crowd = Crowd(2500)
    crowd.get_to_know()
    crowd.seconds += 400
    crowd.look(refresh_s=300)
    assert (len(crowd.ec2.calls), crowd.store.lists) == (3, 1)


def test_many_runs_are_listed_at_once() -> None:
    """A thousand runs of one trial each are not a thousand LISTs."""
    crowd = Crowd(200, runs=200)
    crowd.look()
    assert crowd.store.lists == 1


def test_young_machines_that_all_speak_are_read_in_turns() -> None:
    """A hundred new beats are not a hundred GETs a look; after some looks each was read, the
    longest unread first.
    """
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


def test_what_a_list_said_to_be_new_is_read_before_another_list() -> None:
    """As many turns as it takes; but who is not on it, as a machine launched since, waits fifteen
    seconds at most.
    """
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
    """And only if it changed."""
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


def test_the_last_word_of_a_machine_that_is_gone_is_read_at_once() -> None:
    """Whether it was due or not: it says why."""
    crowd = Crowd(2)
    crowd.look()
    crowd.beat(9)
    trial, instance_id = next(iter(crowd.trials.items()))
    crowd.ec2.end(instance_id, "Server.SpotInstanceTermination")
    looks = crowd.look(refresh_s=300)
    assert looks[trial].heartbeat is not None
    assert looks[trial].heartbeat.step == 9
    assert crowd.store.gets == 1


def test_all_who_ask_at_once_share_one_look() -> None:
    """A hundred triggers of one triggerer."""
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


def test_a_look_that_fails_fails_for_all_who_asked_and_not_for_the_next() -> None:
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


def test_who_gives_up_disturbs_nobody_else_who_waits() -> None:
    """A trigger that is cancelled while all look: the others get their answer, and it was asked for
    once.
    """
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


def test_what_many_have_to_tell_is_told_at_one_moment() -> None:
    """Whoever finds something while others wait for the moment tells it together with them: nothing
    else runs in between.
    """
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
def test_who_pauses_alike_wakes_up_together(pause: float) -> None:
    """Within a little more than the pause, and never at once."""
    moments = {
        round((now + until_next(pause, now)) % round(max(pause, 1)), 6)
        for now in (1000.0, 1000.2, 1000.4)
    }
    assert len({round(now + until_next(pause, now), 6) for now in (1000.1, 1000.2, 1000.3)}) == 1, (
        moments
    )
    assert all(pause / 3 <= until_next(pause, 1000 + n / 7) <= 2.1 * pause for n in range(100))


def test_one_unreadable_heartbeat_hides_no_other_and_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What was known of its trial stays known, and it is not fetched again until it changes."""
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
    assert caplog.text.count("going by what was known before") == 1
    crowd.beat(9)
    assert {look.heartbeat.step for look in crowd.look().values() if look.heartbeat} == {9}
