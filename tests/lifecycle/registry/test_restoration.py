"""A lost pointer stops nights, and one command restores it from the history."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from rl_lifecycle.__main__ import main
from rl_lifecycle.errors import (
    CorruptArtifactError,
    InvalidRecordError,
    LostPointerError,
    MissingObjectError,
)
from rl_lifecycle.experiment.experiment import Experiment
from rl_lifecycle.registry.champions import load_champion
from rl_lifecycle.registry.contents import find_champion, freeze_champion, read_history
from rl_lifecycle.registry.promotion import PromotionOutcome, roll_back
from rl_lifecycle.registry.restoration import restore_champion
from rl_lifecycle.reports.run_summary import summarise_run
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.layout import champion_key, history_key, history_prefix, version_prefix
from rl_lifecycle.storage.object_store import ObjectStore, StoredObject
from tests.lifecycle.conftest import NIGHT
from tests.lifecycle.registry.test_promotion import FakeDyingStore, KilledError, Night
from tests.plugins.worlds import FakeStore

NAME = "cartpole_ppo"
COMMAND = [sys.executable, "-m", "rl_lifecycle", "restore-champion"]


@pytest.fixture
def two_nights(
    store: ObjectStore, experiment: Experiment, new_nonce: Callable[[], str]
) -> ObjectStore:
    """A registry with two versions, of which the first was put back into service."""
    Night(store, experiment, "n1", new_nonce).promote()
    Night(store, experiment, "n2", new_nonce).promote()
    moved = roll_back(
        store,
        NAME,
        1,
        who="ada",
        why="it shakes",
        now=NIGHT + timedelta(days=1),
        new_nonce=new_nonce,
    )
    assert moved.outcome is PromotionOutcome.PROMOTED
    return store


def test_a_lost_pointer_stops_nights_and_names_the_command(
    two_nights: ObjectStore, experiment: Experiment
) -> None:
    """A night does not take the loss for "no champion yet"."""
    two_nights.delete(champion_key(NAME))
    with pytest.raises(LostPointerError) as caught:
        freeze_champion(two_nights, experiment)
    assert "restore-champion" in str(caught.value)
    assert f"--experiment {NAME}" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(LostPointerError):
        load_champion(two_nights, NAME)


def test_the_command_fits_the_store() -> None:
    """The message names the environment of a bucket, and the folder of a directory."""
    bucket = LostPointerError("x", NAME, "s3://nightshift-my-env-123456789012-eu-west-1")
    assert "infra_bootstrap restore-champion --environment my-env --experiment" in str(bucket)
    folder = LostPointerError("x", NAME, "/data/runs")
    assert "rl_lifecycle restore-champion --store /data/runs --experiment" in str(folder)


def test_a_night_that_was_frozen_before_the_first_champion_does_not_replace_it(
    store: ObjectStore, experiment: Experiment, new_nonce: Callable[[], str]
) -> None:
    """Its spec says "no champion", and so does the bucket, but the history knows better."""
    early = Night(store, experiment, "early", new_nonce)
    Night(store, experiment, "n1", new_nonce).promote()
    store.delete(champion_key(NAME))
    with pytest.raises(LostPointerError):
        early.promote()
    assert store.find(champion_key(NAME)) is None


def test_the_restored_pointer_names_the_last_move(
    two_nights: ObjectStore, experiment: Experiment, new_nonce: Callable[[], str]
) -> None:
    """The version that was put back is in service again, and the history is as it was."""
    before, history = find_champion(two_nights, NAME), read_history(two_nights, NAME)
    pending = Night(two_nights, experiment, "n3", new_nonce)
    two_nights.delete(champion_key(NAME))
    done = restore_champion(two_nights, NAME, new_nonce=new_nonce)
    assert (done.restored, done.version) == (True, 1)
    after = find_champion(two_nights, NAME)
    assert before is not None
    assert after is not None
    assert (after[0].entry, after[0].digest) == (before[0].entry, before[0].digest)
    assert read_history(two_nights, NAME) == history
    assert load_champion(two_nights, NAME).version == 1
    # A night that was frozen before the loss is compared again.
    assert pending.promote().outcome is PromotionOutcome.SUPERSEDED
    assert Night(two_nights, experiment, "n4", new_nonce).promote().version == 3


def test_a_pointer_that_is_there_is_not_changed(
    two_nights: ObjectStore, new_nonce: Callable[[], str]
) -> None:
    """The command can be repeated."""
    before = two_nights.find(champion_key(NAME))
    assert not restore_champion(two_nights, NAME, new_nonce=new_nonce).restored
    assert two_nights.find(champion_key(NAME)) == before


def test_a_first_night_still_works(
    store: ObjectStore, experiment: Experiment, new_nonce: Callable[[], str]
) -> None:
    """Without a history there is nothing to restore, and the first candidate begins one."""
    assert freeze_champion(store, experiment) is None
    with pytest.raises(InvalidRecordError, match="no history"):
        restore_champion(store, NAME, new_nonce=new_nonce)
    assert Night(store, experiment, "n1", new_nonce).promote().version == 1


def lose_pointer_and_history(store: ObjectStore) -> None:
    """Delete the pointer and every entry."""
    store.delete(champion_key(NAME))
    for item in list(store.list(history_prefix(NAME))):
        store.delete(item.key)


def test_a_version_without_pointer_and_history_stops_nights(
    two_nights: ObjectStore, experiment: Experiment, new_nonce: Callable[[], str]
) -> None:
    """A night does not become a first champion beside versions that were in service."""
    pending = Night(two_nights, experiment, "n3", new_nonce)
    lose_pointer_and_history(two_nights)
    tries: list[Callable[[], object]] = [
        lambda: freeze_champion(two_nights, experiment),
        lambda: restore_champion(two_nights, NAME, new_nonce=new_nonce),
        lambda: load_champion(two_nights, NAME),
        pending.promote,
    ]
    for attempt in tries:
        with pytest.raises(LostPointerError, match="version 2 of run n2 is complete") as caught:
            attempt()
        assert f"registry/{NAME}/history/" in str(caught.value)
    assert two_nights.find(champion_key(NAME)) is None


def test_a_first_promotion_that_was_cut_off_is_finished_by_its_own_task(
    store: ObjectStore, experiment: Experiment, new_nonce: Callable[[], str]
) -> None:
    """The version is complete and never was in service. The next night names the way out."""
    first = Night(store, experiment, "n1", new_nonce)
    with pytest.raises(KilledError):
        first.promote(FakeDyingStore(store, 7))  # type: ignore[arg-type]  # all but the pointer
    with pytest.raises(LostPointerError, match=r"version 1 of run n1.*clear the task `promote`"):
        freeze_champion(store, experiment)
    assert first.promote().version == 1
    assert freeze_champion(store, experiment) is not None


def test_a_newest_entry_that_was_lost_is_hinted_at(
    store: ObjectStore, experiment: Experiment, new_nonce: Callable[[], str]
) -> None:
    """Version 2 was in service. The command restores version 1, and says that it saw version 2."""
    Night(store, experiment, "n1", new_nonce).promote()
    Night(store, experiment, "n2", new_nonce).promote()
    store.delete(champion_key(NAME))
    store.delete(history_key(NAME, 2))
    done = restore_champion(store, NAME, new_nonce=new_nonce)
    assert (done.version, done.restored) == (1, True)
    assert "version 2 is complete but in no history entry" in done.reason
    assert "rollback_policy" in done.reason


def test_no_hint_without_a_reason(two_nights: ObjectStore, new_nonce: Callable[[], str]) -> None:
    """A version that was rolled back is in the history."""
    two_nights.delete(champion_key(NAME))
    assert "no history entry" not in restore_champion(two_nights, NAME, new_nonce=new_nonce).reason


@pytest.mark.parametrize("edit", [{"version": 2}, {"digest": "another"}, {"experiment": "other"}])
def test_a_pointer_that_was_edited_is_not_reported_as_in_service(
    two_nights: ObjectStore, new_nonce: Callable[[], str], edit: dict[str, object]
) -> None:
    """The command names rollback_policy, and changes nothing."""
    found = two_nights.find(champion_key(NAME))
    assert found is not None
    edited = json.dumps(json.loads(found.data) | edit).encode()
    two_nights.put(champion_key(NAME), edited)
    with pytest.raises((InvalidRecordError, CorruptArtifactError)):
        restore_champion(two_nights, NAME, new_nonce=new_nonce)
    after = two_nights.find(champion_key(NAME))
    assert after is not None
    assert after.data == edited


def test_what_is_not_whole_is_not_restored(
    two_nights: ObjectStore, new_nonce: Callable[[], str]
) -> None:
    """A gap in the history or a changed file is reported, and nothing is written."""
    two_nights.delete(champion_key(NAME))
    policy = version_prefix(NAME, 1) + "policy.onnx"
    kept = two_nights.find(policy)
    assert kept is not None
    two_nights.put(policy, b"forged")
    with pytest.raises(CorruptArtifactError):
        restore_champion(two_nights, NAME, new_nonce=new_nonce)
    two_nights.delete(policy)
    with pytest.raises(MissingObjectError):
        restore_champion(two_nights, NAME, new_nonce=new_nonce)
    two_nights.put(policy, kept.data)
    two_nights.delete(history_key(NAME, 2))
    with pytest.raises(InvalidRecordError, match="an entry is missing"):
        restore_champion(two_nights, NAME, new_nonce=new_nonce)
    assert two_nights.find(champion_key(NAME)) is None


def test_an_entry_that_was_edited_is_not_restored(
    two_nights: ObjectStore, new_nonce: Callable[[], str]
) -> None:
    """The history's digest must be that of the version."""
    two_nights.delete(champion_key(NAME))
    key = history_key(NAME, 3)
    found = two_nights.find(key)
    assert found is not None
    edited = json.loads(found.data) | {"to_digest": "another"}
    two_nights.put(key, json.dumps(edited).encode())
    with pytest.raises(InvalidRecordError):
        restore_champion(two_nights, NAME, new_nonce=new_nonce)
    assert two_nights.find(champion_key(NAME)) is None


def test_a_rollback_of_a_lost_pointer_names_the_command(
    two_nights: ObjectStore, new_nonce: Callable[[], str]
) -> None:
    """A rollback does not invent what was in service."""
    two_nights.delete(champion_key(NAME))
    with pytest.raises(LostPointerError):
        roll_back(two_nights, NAME, 2, who="ada", why="x", now=NIGHT, new_nonce=new_nonce)


def test_the_report_of_a_run_is_written_without_the_pointer(
    two_nights: ObjectStore,
) -> None:
    """A run is summarised all the same."""
    two_nights.delete(champion_key(NAME))
    assert summarise_run(two_nights, NAME, "n2").champion_version is None


def test_the_command_restores_in_a_directory(
    tmp_path: Path,
    experiment: Experiment,
    new_nonce: Callable[[], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One command, which names what it did; bad input is one line and exit status 2."""
    store = DirectoryStore(tmp_path / "runs")
    Night(store, experiment, "n1", new_nonce).promote()
    (tmp_path / "runs" / champion_key(NAME)).unlink()
    words = ["restore-champion", "--store", str(tmp_path / "runs"), "--experiment", NAME]
    assert main(words) == 0
    assert (
        "restored, version 1 is in service (move 1, promoted by airflow" in capsys.readouterr().out
    )
    assert load_champion(store, NAME).version == 1
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["restored"] is False
    shutil.rmtree(tmp_path / "runs")
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_module_is_a_command(tmp_path: Path) -> None:
    """`python -m rl_lifecycle restore-champion` reports a wrong name in one line."""
    done = subprocess.run(
        [*COMMAND, "--store", str(tmp_path), "--experiment", "nothing"],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


class FakeCountingStore(FakeStore):
    """A store that counts reads and writes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def find(self, key: str) -> StoredObject | None:
        """Read a key."""
        self.calls.append(f"find {key}")
        return super().find(key)


def test_a_promotion_does_not_try_version_numbers_one_by_one(
    experiment: Experiment, new_nonce: Callable[[], str]
) -> None:
    """With 40 versions, the next promotion looks at no claim of an older version."""
    store = FakeCountingStore()
    for number in range(40):
        Night(store, experiment, f"n{number}", new_nonce).promote()
    night = Night(store, experiment, "last", new_nonce)
    store.calls.clear()
    assert night.promote().version == 41
    claims = [call for call in store.calls if call.endswith("claim.json")]
    assert len([call for call in claims if "/000041/" not in call]) == 0
    # A retry, and a run whose earlier try died after its claim, find their own number.
    assert night.promote().version == 41


def test_a_superseded_candidate_finds_its_own_number_again(
    experiment: Experiment, new_nonce: Callable[[], str]
) -> None:
    """A candidate that was stored but lost the race has one number, however often it is tried."""
    store = FakeStore()
    Night(store, experiment, "n0", new_nonce).promote()
    night = Night(store, experiment, "n1", new_nonce)
    for writes in range(8):
        with pytest.raises(KilledError):
            night.promote(FakeDyingStore(store, writes))  # type: ignore[arg-type]
    assert night.promote().version == 2
