"""The chain of checkpoints is fenced and verified, and falls back from damage."""

import dataclasses
from pathlib import Path

import pytest

from rl_lifecycle.errors import ChangedPiecesError, CorruptArtifactError
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.layout import TrialId, buffer_key, head_key
from rl_lifecycle.storage.object_store import ObjectStore
from rl_lifecycle.trials.checkpoints import Head
from rl_trainer.checkpointing.chain import Checkpoint, CheckpointChain, Contents
from rl_trainer.checkpointing.retention import DirectoryRetention
from rl_trainer.errors import FencedError
from tests.trainer.fake_stores import FakeMeddlingStore

TRIAL = TrialId("tiny", "test", "seed-0")
CHUNK = b"chunk"


def chain(store: ObjectStore, attempt: int, heard: list[str] | None = None) -> CheckpointChain:
    """Make a chain for one attempt."""
    made = CheckpointChain(
        store, TRIAL, attempt, "spec", 7, (heard if heard is not None else []).append
    )
    made.take_over()
    return made


def contents(step: int) -> Contents:
    """Make an invented checkpoint with a replay-buffer chunk."""
    return Contents(
        step=step,
        segment=step // 100,
        digest=f"digest-{step}",
        files={"state.json": f"state {step}".encode()},
        numeric_class={},
        buffer_chunks=(sha256_hex(CHUNK),),
        new_chunks={sha256_hex(CHUNK): [memoryview(CHUNK)]},
    )


def read_chunks(checkpoint: Checkpoint) -> list[bytes]:
    """Read the replay buffer's chunks and verify them."""
    found: list[bytes] = []
    for _, read in checkpoint.chunks:
        read(lambda reader: found.append(reader.read(1000)))
    return found


def test_the_newest_checkpoint_is_read_back(tmp_path: Path) -> None:
    """A new attempt reads the previous attempt's checkpoint with its chunks."""
    store = DirectoryStore(tmp_path)
    first = chain(store, 1)
    assert first.read_newest() is None
    first.commit(contents(100))
    first.commit(contents(200))
    found = chain(store, 2).read_newest()
    assert found is not None
    assert (found.manifest.step, found.files, read_chunks(found)) == (
        200,
        {"state.json": b"state 200"},
        [CHUNK],
    )


def test_a_zombies_commit_fails_on_the_head(tmp_path: Path) -> None:
    """After a later attempt took over, an earlier attempt's commit fails."""
    store = DirectoryStore(tmp_path)
    zombie = chain(store, 1)
    zombie.commit(contents(100))
    chain(store, 2)
    with pytest.raises(FencedError):
        zombie.commit(contents(200))
    head = Head.from_json((tmp_path / head_key(TRIAL)).read_bytes())
    assert (head.attempt, head.step) == (2, 100)
    with pytest.raises(FencedError):
        chain(store, 1)


def test_a_chunk_that_changed_in_memory_fails_its_commit_and_the_head_stays(tmp_path: Path) -> None:
    """A chunk that changed in memory fails its commit, and the head stays."""
    store = DirectoryStore(tmp_path)
    first = chain(store, 1)
    first.commit(contents(100))
    torn = dataclasses.replace(
        contents(200), new_chunks={sha256_hex(CHUNK): [memoryview(b"chunk overwritten")]}
    )
    with pytest.raises(ChangedPiecesError, match="start again from the last checkpoint"):
        first.commit(torn)
    found = chain(store, 2).read_newest()
    assert found is not None
    assert (found.manifest.step, read_chunks(found)) == (100, [CHUNK])


def test_a_takeover_that_races_with_a_commit_looks_again(tmp_path: Path) -> None:
    """If the head moves during a takeover, the new attempt starts from the new head."""
    zombie = chain(DirectoryStore(tmp_path), 1)
    store = FakeMeddlingStore(
        tmp_path, "head.json", lambda behind: zombie.commit(contents(100)) and None
    )
    found = chain(store, 2).read_newest()
    assert found is not None
    assert found.manifest.step == 100


@pytest.mark.parametrize("damage", ["state.json", "manifest.json", "chunk"])
def test_a_damaged_checkpoint_falls_back_and_says_so(tmp_path: Path, damage: str) -> None:
    """Every byte is verified, and the log names the damaged checkpoint."""
    store, heard = DirectoryStore(tmp_path), list[str]()
    first = chain(store, 1)
    first.commit(contents(100))
    other = b"another chunk"
    newest = Contents(
        step=200,
        segment=2,
        digest="d",
        files={"state.json": b"state 200"},
        numeric_class={},
        buffer_chunks=(sha256_hex(other),),
        new_chunks={sha256_hex(other): [memoryview(other)]},
    )
    first.commit(newest)
    folder = tmp_path / "checkpoints/tiny/test/seed-0/000000000200/0001"
    damaged = (
        tmp_path / buffer_key(TRIAL, sha256_hex(other)) if damage == "chunk" else folder / damage
    )
    damaged.write_bytes(b"{}")
    second = chain(store, 2, heard)
    found = second.read_newest()
    assert found is not None
    if damage == "chunk":  # the replay buffer is read when it is filled
        with pytest.raises(CorruptArtifactError) as raised:
            read_chunks(found)
        found = second.read_before(found, raised.value)
        assert found is not None
    assert found.manifest.step == 100
    assert len(heard) == 1
    assert "000000000200" in heard[0]
    second.commit(newest)
    again = chain(store, 3).read_newest()
    assert again is not None
    assert (again.manifest.step, again.manifest.attempt, again.manifest.previous) == (
        200,
        2,
        found.key,
    )


def test_if_all_are_damaged_the_training_begins_again(tmp_path: Path) -> None:
    """No damaged checkpoint is used."""
    store = DirectoryStore(tmp_path)
    chain(store, 1).commit(contents(100))
    for path in tmp_path.glob("checkpoints/**/state.json"):
        path.write_bytes(b"x")
    assert chain(store, 2).read_newest() is None


def test_a_directory_keeps_the_newest_checkpoints_and_every_manifest(tmp_path: Path) -> None:
    """Each commit deletes old data and chunks; the next start deletes a killed machine's rest."""
    store = DirectoryStore(tmp_path)
    first = CheckpointChain(
        store, TRIAL, 1, "spec", 7, retention=DirectoryRetention(store, TRIAL, 1)
    )
    first.take_over()
    chunks = [f"chunk {index}".encode() for index in range(6)]
    for segment, chunk in enumerate(chunks):
        held = chunks[max(0, segment - 1) : segment + 1]  # the buffer holds two
        first.commit(
            Contents(
                step=100 * (segment + 1),
                segment=segment,
                digest="d",
                files={"state.json": b"state"},
                numeric_class={},
                buffer_chunks=tuple(map(sha256_hex, held)),
                new_chunks={sha256_hex(chunk): [memoryview(chunk)]},
            )
        )
    folder = tmp_path / "checkpoints/tiny/test/seed-0"
    assert [path.parent.parent.name for path in sorted(folder.glob("*/*/state.json"))] == [
        f"{step:012d}" for step in (400, 500, 600)
    ]
    assert len(list(folder.glob("*/*/manifest.json"))) == 6
    assert {path.read_bytes() for path in (tmp_path / "buffers/tiny/test/seed-0").iterdir()} == set(
        chunks[2:]
    )
    left = folder / "000000000500/0000/state.json"
    left.parent.mkdir()
    left.write_bytes(b"never committed")
    (folder / "000000000600/0001/state.json").write_bytes(b"damaged")
    second = CheckpointChain(
        store, TRIAL, 2, "spec", 7, retention=DirectoryRetention(store, TRIAL, 2)
    )
    found = second.read_newest()
    assert found is not None
    assert (found.manifest.step, left.exists()) == (500, False)
