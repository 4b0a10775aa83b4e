"""Whom a learner calls, and which generation a collector joins."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.layout import TrialId, gang_key, head_key, heartbeat_key
from rl_lifecycle.trials.checkpoints import Head
from rl_lifecycle.trials.gangs import Announcement, Member
from rl_lifecycle.trials.heartbeats import Heartbeat, TrainerState
from rl_trainer.errors import FencedError
from rl_trainer.gangs.roster import CALLABLE, GenerationFinder, Roster, Start
from rl_trainer.gangs.transport import Rendezvous

TRIAL = TrialId("tiny", "r1", "seed-0")
MEETING = Rendezvous("127.0.0.1", 4000, 2)


class Bucket:
    """A store with the heartbeats of collectors."""

    def __init__(self, folder: Path) -> None:
        self.store = DirectoryStore(folder)
        self._steps = 0

    def roster(self, seats: int = 2, name: str | None = "class-a", **choice: bool) -> Roster:
        """A learner's roster of its first attempt."""
        return Roster(self.store, TRIAL, 1, seats + 1, name, **choice)

    def beat(
        self,
        seat: int,
        nonce: str,
        *,
        state: TrainerState = TrainerState.WAITING,
        left: str = "",
        name: str = "class-a",
        leaving: bool = False,
    ) -> None:
        """Write a heartbeat, which differs from all before."""
        self._steps += 1
        beat = Heartbeat(
            attempt=1,
            state=state,
            step=self._steps,
            total_timesteps=100,
            steps_per_s=0.0,
            at=datetime(2026, 1, 1, tzinfo=UTC),
            announcement=Announcement(
                nonce=nonce,
                address="127.0.0.2",
                processes=1,
                numeric_class=name,
                left=left,
                leaving=leaving,
            ),
        )
        self.store.put(heartbeat_key(TRIAL.at_seat(seat)), beat.to_json())

    def take_head(self, attempt: int) -> None:
        """Let an attempt of the learner hold the head."""
        head = Head(attempt=attempt, step=0, manifest_key=None, manifest_sha256=None, nonce="n")
        self.store.put(head_key(TRIAL), head.to_json())


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    """An empty bucket."""
    return Bucket(tmp_path)


def found(roster: Roster, called: dict[int, str] | None = None) -> list[tuple[int, str]]:
    """The seats and nonces of the machines that may be called."""
    return [(one.seat, one.announcement.nonce) for one in roster.find(called or {})]


def call(roster: Roster, seat: int, nonce: str) -> None:
    """Write a generation of the learner and one machine."""
    members = [
        Member(seat=0, nonce="", address="127.0.0.1", ranks=(0,)),
        Member(seat=seat, nonce=nonce, address="127.0.0.2", ranks=(1,)),
    ]
    roster.call(MEETING, members, [1, 0], Start(0))


def test_a_heartbeat_counts_only_if_it_changes_while_the_learner_looks(bucket: Bucket) -> None:
    """It may be the last one of a machine that is gone. No clock is compared."""
    bucket.beat(1, "a")
    roster = bucket.roster()
    assert found(roster) == found(roster) == []
    bucket.beat(1, "a")
    assert found(roster) == [(1, "a")]


@pytest.mark.parametrize("state", [state for state in TrainerState if state not in CALLABLE])
def test_a_machine_that_starts_or_has_ended_is_not_called(
    bucket: Bucket, state: TrainerState
) -> None:
    """Only one that waits or collects answers."""
    roster = bucket.roster()
    for _ in range(2):
        bucket.beat(1, "a", state=state)
        assert found(roster) == []


def test_a_member_is_called_again_when_it_has_left(bucket: Bucket) -> None:
    """That it names the generation shows that it is there, so one look is enough."""
    roster = bucket.roster()
    _announce(bucket, roster, 1, "a")
    call(roster, 1, "a")
    bucket.beat(1, "a", state=TrainerState.TRAINING)
    assert found(roster, {1: "a"}) == []
    bucket.beat(1, "a", left=roster.name)
    assert found(roster, {1: "a"}) == [(1, "a")]


def test_a_machine_in_the_place_of_a_member_is_called(bucket: Bucket) -> None:
    """Also if the member has never left."""
    roster = bucket.roster()
    _announce(bucket, roster, 1, "a")
    call(roster, 1, "a")
    roster.set_aside({1: "a"})
    assert found(roster) == []
    bucket.beat(1, "a")
    assert found(roster) == []
    bucket.beat(1, "b")
    roster.set_aside({1: "a"})
    assert found(roster) == [(1, "b")]


def test_a_machine_that_leaves_is_not_called(bucket: Bucket) -> None:
    """The others are."""
    roster = bucket.roster()
    _announce(bucket, roster, 1, "a")
    _announce(bucket, roster, 2, "b")
    bucket.beat(1, "a", leaving=True)
    assert found(roster) == [(2, "b")]


def test_all_that_collect_are_of_one_numeric_class(bucket: Bucket) -> None:
    """The first machine decides it if the learner has a GPU. `continue` takes every machine."""
    rosters = [bucket.roster(), bucket.roster(name=None), bucket.roster(any_class=True)]
    for _ in range(2):
        bucket.beat(1, "a", name="class-b")
        bucket.beat(2, "b")
        answers = [found(roster) for roster in rosters]
    assert answers == [[(2, "b")], [(1, "a")], [(1, "a"), (2, "b")]]
    assert rosters[1].collectors_class == "class-b"


def test_an_unreadable_heartbeat_is_no_machine(bucket: Bucket) -> None:
    """The launcher reports it."""
    bucket.store.put(heartbeat_key(TRIAL.at_seat(1)), b"{}")
    assert found(bucket.roster()) == []


def test_a_generation_is_written_once(bucket: Bucket) -> None:
    """A second process of the same attempt is fenced off."""
    call(bucket.roster(), 1, "a")
    with pytest.raises(FencedError, match="another process has taken over this attempt"):
        call(bucket.roster(), 1, "b")


def test_a_collector_finds_the_newest_generation_of_the_attempt_that_has_the_head(
    bucket: Bucket,
) -> None:
    """Generations of earlier attempts do not count, also if they are written later."""
    now = [0.0]
    finder = GenerationFinder(bucket.store, TRIAL.at_seat(1), clock=lambda: now[0])
    assert finder.look() is None
    bucket.take_head(1)
    old = bucket.roster()
    call(old, 1, "a")
    call(old, 1, "a")
    now[0] += finder.HEAD_S
    assert _name(finder) == "1-2"
    call(old, 1, "a")
    assert _name(finder) == "1-3"
    bucket.take_head(3)
    now[0] += finder.HEAD_S
    call(old, 1, "a")
    assert finder.look() is None
    call(Roster(bucket.store, TRIAL, 3, 2, "class-a"), 1, "a")
    assert _name(finder) == "3-1"
    assert bucket.store.find(gang_key(TRIAL, 1, 4)) is not None


def test_a_generation_names_the_checkpoint_before_it(bucket: Bucket) -> None:
    """By key and digest."""
    sha256 = sha256_hex(b"manifest")
    roster = bucket.roster()
    roster.call(MEETING, [], [0], Start(3, "checkpoints/x/manifest.json", sha256))
    bucket.take_head(1)
    generation = GenerationFinder(bucket.store, TRIAL).look()
    assert generation is not None
    assert (generation.segment, generation.manifest_sha256) == (3, sha256)


def _announce(bucket: Bucket, roster: Roster, seat: int, nonce: str) -> None:
    """Let a machine be seen alive."""
    bucket.beat(seat, nonce)
    roster.find()
    bucket.beat(seat, nonce)
    assert (seat, nonce) in found(roster)


def _name(finder: GenerationFinder) -> str:
    generation = finder.look()
    assert generation is not None
    return generation.name
