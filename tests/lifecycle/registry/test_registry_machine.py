"""The registry stays consistent under any order of promotions, rollbacks, crashes and rivals."""

import contextlib
import itertools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.registry.contents import Move, find_champion, list_versions, read_history
from rl_lifecycle.registry.promotion import (
    Promotion,
    PromotionOutcome,
    roll_back,
    rolled_back_digests,
)
from rl_lifecycle.registry.versions import verify_version
from rl_lifecycle.storage.layout import champion_key, history_key
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


class RegistryMachine(RuleBasedStateMachine):
    """Nights wait to be promoted; some die during a promotion and are repeated."""

    @initialize()
    def begin(self) -> None:
        """An empty registry."""
        self.store, self.count = FakeStore(), itertools.count()
        self.nights: list[Night] = []
        self.pointers: list[bytes] = []

    @rule(as_import=st.booleans(), again=st.booleans())
    def train(self, as_import: bool, again: bool) -> None:
        """Add a night whose candidate passes the gate, sometimes with an earlier policy."""
        night = Night(self.store, EXPERIMENT, f"n{next(self.count)}", self._nonce)
        if again and self.nights:
            night.deliver(self.nights[0].record.digest)
        if as_import:
            night.record = imported(night)
        self.nights.append(night)

    @precondition(lambda machine: machine.nights)
    @rule(data=st.data(), writes=st.one_of(st.just(NEVER), st.integers(0, 10)))
    def promote(self, data: st.DataObject, writes: int) -> None:
        """Promote any night, perhaps again, and perhaps die before a write."""
        night = data.draw(st.sampled_from(self.nights))
        self._try(lambda: night.promote(FakeDyingStore(self.store, writes)))  # type: ignore[arg-type]

    @precondition(lambda machine: len(machine.nights) > 1)
    @rule(data=st.data(), writes=st.integers(0, 10))
    def promote_two_at_once(self, data: st.DataObject, writes: int) -> None:
        """Promote two nights at once, of which at most one moves the pointer."""
        one, other = data.draw(st.permutations(self.nights))[:2]
        before, done = len(read_history(self.store, NAME)), []
        rivals = FakeInterruptingStore(self.store, writes, lambda: done.append(other.promote()))
        done.append(one.promote(rivals))  # type: ignore[arg-type]
        moved = len(read_history(self.store, NAME)) - before
        assert moved <= 1
        assert moved <= sum(one.outcome is PromotionOutcome.PROMOTED for one in done)

    @precondition(lambda machine: find_champion(machine.store, NAME) is not None)
    @rule(data=st.data(), writes=st.one_of(st.just(NEVER), st.integers(0, 3)))
    def put_back(self, data: st.DataObject, writes: int) -> None:
        """Roll back to any complete version, and perhaps die."""
        to = data.draw(st.sampled_from([one.version for one in list_versions(self.store, NAME)]))
        champion = find_champion(self.store, NAME)
        assume(champion is not None and champion[0].version != to)
        store: Any = FakeDyingStore(self.store, writes)
        self._try(
            lambda: roll_back(
                store,
                NAME,
                to,
                who="ada",
                why="it shakes",
                now=NIGHT + timedelta(days=1),
                new_nonce=self._nonce,
            )
        )

    @invariant()
    def the_pointer_names_something_whole(self) -> None:
        """Check that every file of the champion exists with its recorded digest."""
        if champion := find_champion(self.store, NAME):
            manifest = verify_version(self.store, NAME, champion[0].version)
            assert manifest.digest == champion[0].digest
            assert {
                "policy.onnx",
                "spec.json",
                "report.json",
                "model_card.md",
            } <= manifest.files.keys()

    @invariant()
    def history_has_every_move_in_its_order(self) -> None:
        """Check that each move has one entry, which begins where the previous entry ended."""
        history, champion = read_history(self.store, NAME), find_champion(self.store, NAME)
        data = self.store.find(champion_key(NAME))
        if data is not None and data.data not in self.pointers:
            self.pointers.append(data.data)
        assert len(history) == len(self.pointers)
        for before, after in itertools.pairwise(history):
            assert (after.sequence, after.from_version) == (before.sequence + 1, before.to_version)
        if champion is not None:
            assert history[-1].to_version == champion[0].version
        assert self.store.find(history_key(NAME, len(history) + 1)) is None

    @invariant()
    def what_was_rolled_back_did_not_come_back_by_itself(self) -> None:
        """Check that only a rollback restores a policy that was rolled back."""
        bad: set[str] = set()
        for entry in read_history(self.store, NAME):
            if entry.move is Move.ROLLED_BACK and entry.from_digest != entry.to_digest:
                bad.add(str(entry.from_digest))
            if entry.move is Move.ROLLED_BACK:
                bad.discard(entry.to_digest)
            assert entry.to_digest not in bad
        champion = find_champion(self.store, NAME)
        assert champion is None or champion[0].digest not in rolled_back_digests(self.store, NAME)

    def _try(self, move: Callable[[], Promotion]) -> None:
        with contextlib.suppress(KilledError):
            move()

    def _nonce(self) -> str:
        return f"nonce-{next(self.count)}"


TestRegistryMachine = RegistryMachine.TestCase
TestRegistryMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
