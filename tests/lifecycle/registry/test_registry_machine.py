"""The registry stays consistent under any order of promotions, rollbacks, crashes and rivals."""

import contextlib
import itertools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rl_lifecycle.errors import InvalidRecordError, LostPointerError, StoreUnavailableError
from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.registry.contents import (
    ChampionPointer,
    HistoryEntry,
    Move,
    find_champion,
    freeze_champion,
    list_versions,
    read_entries,
    read_history,
    settle_history,
)
from rl_lifecycle.registry.promotion import (
    Promotion,
    PromotionOutcome,
    roll_back,
    rolled_back_digests,
)
from rl_lifecycle.registry.restoration import restore_champion
from rl_lifecycle.registry.versions import verify_version
from rl_lifecycle.storage.layout import champion_key, history_key
from rl_lifecycle.storage.object_store import StoredObject
from tests.lifecycle.conftest import NIGHT
from tests.lifecycle.registry.test_promotion import FakeDyingStore, KilledError, Night, imported
from tests.plugins.worlds import FakeStore

NAME = "cartpole_ppo"
EXPERIMENT = read_experiment(
    {
        "env_id": "CartPole-v1",
        "algo": "ppo",
        "total_timesteps": 100_000,
        "evaluation": {"return_range": [0, 500], "crash_below": 100},
    },
    NAME,
)
#: More writes than any move makes, so no write is interrupted.
NEVER = 99


def find_pointer(store: FakeStore) -> StoredObject | None:
    """Read the bytes of the pointer."""
    return store.find(champion_key(NAME))


class FakeInterruptingStore:
    """A store in which a rival acts right before the n-th write."""

    def __init__(self, store: FakeStore, writes_before: int, rival: Callable[[], Any]) -> None:
        self._store, self._left, self._rival = store, writes_before, rival

    def put(self, key: str, data: bytes, **condition: Any) -> str:
        if self._left == 0:
            self._rival()
        self._left -= 1
        return self._store.put(key, data, **condition)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class FakeForgettingStore:
    """A store whose answers to some writes are lost after the write took effect."""

    def __init__(self, store: FakeStore, lost: set[int]) -> None:
        self._store, self._lost, self._count = store, lost, itertools.count()

    def put(self, key: str, data: bytes, **condition: Any) -> str:
        etag = self._store.put(key, data, **condition)
        if next(self._count) in self._lost:
            raise StoreUnavailableError(key, "the answer was lost")
        return etag

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class RegistryMachine(RuleBasedStateMachine):
    """Nights wait to be promoted; some die during a promotion and are repeated.

    The pointer is lost now and then, until it is restored. Writers interleave at every write.
    """

    @initialize()
    def begin(self) -> None:
        """An empty registry."""
        self.store, self.count = FakeStore(), itertools.count()
        self.nights: list[Night] = []
        self.moves: list[HistoryEntry] = []

    @precondition(lambda machine: not machine.is_lost())
    @rule(as_import=st.booleans(), again=st.booleans())
    def train(self, as_import: bool, again: bool) -> None:
        """Add a night whose candidate passes the gate, sometimes with an earlier policy."""
        night = Night(self.store, EXPERIMENT, f"n{next(self.count)}", self._nonce)
        if again and self.nights:
            night.deliver(self.nights[0].record.digest)
        if as_import:
            night.record = imported(night)
        self.nights.append(night)

    @precondition(lambda machine: machine.is_lost())
    @rule()
    def train_without_the_pointer(self) -> None:
        """A night is not frozen while the pointer is lost."""
        with pytest.raises(LostPointerError, match="restore-champion"):
            freeze_champion(self.store, EXPERIMENT)

    @precondition(lambda machine: machine.nights)
    @rule(data=st.data(), writes=st.one_of(st.just(NEVER), st.integers(0, 10)))
    def promote(self, data: st.DataObject, writes: int) -> None:
        """Promote any night, perhaps again, and perhaps die before a write."""
        night = data.draw(st.sampled_from(self.nights))
        self._try(lambda: night.promote(FakeDyingStore(self.store, writes)))  # type: ignore[arg-type]

    @precondition(lambda machine: machine.nights)
    @rule(data=st.data(), lost=st.sets(st.integers(0, 9), min_size=1, max_size=4))
    def promote_with_lost_answers(self, data: st.DataObject, lost: set[int]) -> None:
        """Lose the answers of some writes, and repeat as Airflow does until one try ends."""
        night = data.draw(st.sampled_from(self.nights))
        store: Any = FakeForgettingStore(self.store, lost)
        for _ in range(6):
            try:
                self._try(lambda: night.promote(store))
            except StoreUnavailableError:
                continue
            return
        raise AssertionError("no try ended although only four answers were lost")

    @precondition(lambda machine: len(machine.nights) > 1 and not machine.is_lost())
    @rule(data=st.data(), writes=st.integers(0, 10), other_writes=st.integers(0, 10))
    def promote_at_once(self, data: st.DataObject, writes: int, other_writes: int) -> None:
        """Promote up to three nights at once, of which at most one moves the pointer.

        The second acts right before a write of the first, and the third before one of the second.
        """
        chosen = data.draw(st.permutations(self.nights))[:3]
        before, done = len(read_history(self.store, NAME)), []

        def last() -> None:
            if len(chosen) > 2:
                done.append(chosen[2].promote())

        def second() -> None:
            rivals: Any = FakeInterruptingStore(self.store, other_writes, last)
            done.append(chosen[1].promote(rivals))

        first: Any = FakeInterruptingStore(self.store, writes, second)
        done.append(chosen[0].promote(first))
        moved = len(read_history(self.store, NAME)) - before
        assert moved <= 1
        assert moved <= sum(one.outcome is PromotionOutcome.PROMOTED for one in done)

    @precondition(lambda machine: machine.others())
    @rule(data=st.data(), writes=st.one_of(st.just(NEVER), st.integers(0, 3)))
    def put_back(self, data: st.DataObject, writes: int) -> None:
        """Roll back to any other complete version, and perhaps die."""
        to = data.draw(st.sampled_from(self.others()))
        store: Any = FakeDyingStore(self.store, writes)
        self._try(lambda: self._roll_back(store, to))

    @precondition(lambda machine: machine.nights and machine.others())
    @rule(data=st.data(), writes=st.integers(0, 9))
    def put_back_during_a_promotion(self, data: st.DataObject, writes: int) -> None:
        """A person rolls back right before any write of a promotion: one of the two moves comes
        first, and the other does not undo it.
        """
        to = data.draw(st.sampled_from(self.others()))
        night, done = data.draw(st.sampled_from(self.nights)), []

        def rival() -> None:
            self._note_move()  # the promotion may have moved the pointer already
            with contextlib.suppress(InvalidRecordError):  # the version came into service meanwhile
                done.append(self._roll_back(self.store, to))

        store: Any = FakeInterruptingStore(self.store, writes, rival)
        self._try(lambda: night.promote(store))
        if any(one.outcome is PromotionOutcome.PROMOTED for one in done):
            assert any(entry.move is Move.ROLLED_BACK for entry in read_history(self.store, NAME))

    @precondition(lambda machine: find_pointer(machine.store) is not None)
    @rule(settled=st.booleans())
    def lose_the_pointer(self, settled: bool) -> None:
        """The pointer is deleted. What the last writer had not yet written is lost with it."""
        champion = find_champion(self.store, NAME)
        assert champion is not None
        if settled:
            settle_history(self.store, champion[0])
        self.store.delete(champion_key(NAME))
        if self.store.find(history_key(NAME, champion[0].entry.sequence)) is None:
            self.moves.pop()  # no record of this move is left

    @precondition(lambda machine: machine.is_lost() and machine.nights)
    @rule(data=st.data(), writes=st.integers(0, 2))
    def restore(self, data: st.DataObject, writes: int) -> None:
        """Restore the pointer while two others do the same, or a night tries to promote."""
        other = data.draw(st.sampled_from([None, *self.nights]))

        def rival() -> None:
            if other is None:
                restore_champion(self.store, NAME, new_nonce=self._nonce)
            else:
                self._try(other.promote)

        history = read_entries(self.store, NAME)
        if not history:
            with pytest.raises(LostPointerError, match="clear the task `promote`"):
                restore_champion(self.store, NAME, new_nonce=self._nonce)
            return
        store: Any = FakeInterruptingStore(self.store, writes, rival)
        done = restore_champion(store, NAME, new_nonce=self._nonce)
        assert done.version == history[-1].to_version
        champion = find_champion(self.store, NAME)
        assert champion is not None
        assert champion[0].entry == history[-1]
        assert read_entries(self.store, NAME) == history

    @invariant()
    def the_pointer_names_something_whole(self) -> None:
        """Check that every file of the champion exists with its recorded digest."""
        if champion := self.champion():
            manifest = verify_version(self.store, NAME, champion.version)
            assert manifest.digest == champion.digest
            assert {
                "policy.onnx",
                "spec.json",
                "report.json",
                "model_card.md",
            } <= manifest.files.keys()

    @invariant()
    def history_has_every_move_in_its_order(self) -> None:
        """Check that each move has one entry, which begins where the previous entry ended."""
        champion = self.champion()
        self._note_move()
        history = read_entries(self.store, NAME, champion.entry if champion else None)
        assert list(history) == self.moves
        for before, after in itertools.pairwise(history):
            assert (after.sequence, after.from_version) == (before.sequence + 1, before.to_version)
        if champion is not None:
            assert history[-1].to_version == champion.version
        assert self.store.find(history_key(NAME, len(history) + 1)) is None

    @invariant()
    def what_was_rolled_back_did_not_come_back_by_itself(self) -> None:
        """Check that only a rollback restores a policy that was rolled back."""
        bad: set[str] = set()
        for entry in self.moves:
            if entry.move is Move.ROLLED_BACK and entry.from_digest != entry.to_digest:
                bad.add(str(entry.from_digest))
            if entry.move is Move.ROLLED_BACK:
                bad.discard(entry.to_digest)
            assert entry.to_digest not in bad
        champion = self.champion()
        assert champion is None or champion.digest not in rolled_back_digests(self.store, NAME)

    @invariant()
    def each_candidate_has_one_version(self) -> None:
        """Check that no candidate got two numbers, and that numbers have no gaps."""
        claims = [
            self.store.objects[key]
            for key in sorted(self.store.objects)
            if key.endswith("/claim.json")
        ]
        assert len(set(claims)) == len(claims)
        assert self.versions() == sorted(set(self.versions()))

    def is_lost(self) -> bool:
        """Whether there is a history or a complete version without the pointer."""
        return find_pointer(self.store) is None and bool(
            read_entries(self.store, NAME) or self.versions()
        )

    def champion(self) -> ChampionPointer | None:
        """Read the pointer, which may be lost."""
        return None if self.is_lost() else (find_champion(self.store, NAME) or (None,))[0]

    def versions(self) -> list[int]:
        """List the complete versions."""
        return [one.version for one in list_versions(self.store, NAME)]

    def others(self) -> list[int]:
        """List the complete versions that are not in service; none if the pointer is lost."""
        champion = self.champion()
        if champion is None:
            return []
        return [version for version in self.versions() if version != champion.version]

    def _roll_back(self, store: Any, to: int) -> Promotion:
        return roll_back(
            store,
            NAME,
            to,
            who="ada",
            why="it shakes",
            now=NIGHT + timedelta(days=1, minutes=next(self.count)),
            new_nonce=self._nonce,
        )

    def _note_move(self) -> None:
        """Remember the move that the pointer names."""
        champion = self.champion()
        if champion is not None and champion.entry not in self.moves:
            self.moves.append(champion.entry)

    def _try(self, move: Callable[[], Promotion]) -> None:
        with contextlib.suppress(KilledError, LostPointerError):
            move()

    def _nonce(self) -> str:
        return f"nonce-{next(self.count)}"


TestRegistryMachine = RegistryMachine.TestCase
TestRegistryMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
