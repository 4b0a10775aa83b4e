"""A consumer loads the verified champion, or gets a clear reason."""

import json
from collections.abc import Callable

import pytest

from rl_lifecycle.errors import (
    CorruptArtifactError,
    InvalidRecordError,
    LifecycleError,
    MissingObjectError,
)
from rl_lifecycle.experiment.experiment import Experiment
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.registry.champions import load_champion, load_parameters, refresh_champion
from rl_lifecycle.storage import layout
from rl_lifecycle.storage.object_store import ObjectStore, get
from tests.lifecycle.registry.test_promotion import Night

NAME = "cartpole_ppo"


@pytest.fixture
def night(
    store: ObjectStore, experiment: Experiment, new_nonce: Callable[[], str]
) -> Callable[[str], Night]:
    """Return a function that makes nights on one store."""
    return lambda run: Night(store, experiment, run, new_nonce)


def test_the_champion_is_loaded_with_all_that_is_known_of_it(
    night: Callable[[str], Night], store: ObjectStore
) -> None:
    """The champion has version, digest, bytes, metadata, time of promotion and place."""
    night("night-1").promote()
    champion = load_champion(store, NAME)
    assert (champion.version, champion.digest, champion.onnx) == (
        1,
        "digest of night-1",
        b"onnx digest of night-1",
    )
    assert champion.metadata.env_id == "CartPole-v1"
    assert champion.uri == f"{store.uri}/registry/{NAME}/versions/000001"
    assert load_parameters(store, champion) == b"parameters digest of night-1"


def test_refreshing_gives_the_same_object_until_the_pointer_moves(
    night: Callable[[str], Night], store: ObjectStore
) -> None:
    """A consumer may refresh before each episode, because only a promotion loads new bytes."""
    night("night-1").promote()
    first = load_champion(store, NAME)
    assert refresh_champion(store, first) is first
    night("night-2").promote()
    second = refresh_champion(store, first)
    assert (second.version, second.digest) == (2, "digest of night-2")


def test_before_the_first_promotion_there_is_no_champion(store: ObjectStore) -> None:
    """The error names the pointer's key."""
    with pytest.raises(MissingObjectError, match=f"registry/{NAME}/champion.json does not exist"):
        load_champion(store, NAME)


def test_a_policy_that_was_changed_is_not_loaded(
    night: Callable[[str], Night], store: ObjectStore
) -> None:
    """Bytes with another digest are refused."""
    night("night-1").promote()
    store.put(layout.version_prefix(NAME, 1) + "policy.onnx", b"something else")
    with pytest.raises(CorruptArtifactError):
        load_champion(store, NAME)


@pytest.mark.parametrize("file", ["policy.onnx", "manifest.json"])
def test_a_champion_with_missing_files_is_named(
    night: Callable[[str], Night], store: ObjectStore, file: str
) -> None:
    """Missing files are named, and a consumer may continue with the loaded champion."""
    night("night-1").promote()
    champion = load_champion(store, NAME)
    store.delete(layout.version_prefix(NAME, 1) + file)
    with pytest.raises(MissingObjectError, match=file):
        load_champion(store, NAME)
    assert refresh_champion(store, champion) is champion


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", 2),
        ("digest", "another"),
        ("manifest_sha256", "0" * 64),
        ("experiment", "another"),
        ("nonce", None),
    ],
)
def test_a_pointer_that_was_edited_by_hand_is_refused(
    night: Callable[[str], Night], store: ObjectStore, key: str, value: object
) -> None:
    """An edited pointer no longer matches the version's manifest."""
    night("night-1").promote()
    pointer = layout.champion_key(NAME)
    document = json.loads(get(store, pointer).data)
    store.put(pointer, json.dumps({**document, key: value}).encode())
    with pytest.raises(LifecycleError):
        load_champion(store, NAME)


def test_a_pointer_to_another_version_with_its_own_manifest_is_refused(
    night: Callable[[str], Night], store: ObjectStore
) -> None:
    """An edit of version and manifest digest still disagrees with the policy's digest."""
    night("night-1").promote()
    night("night-2").promote()
    key = layout.champion_key(NAME)
    document = json.loads(get(store, key).data)
    manifest = get(store, layout.version_prefix(NAME, 1) + "manifest.json").data
    store.put(
        key,
        json.dumps({**document, "version": 1, "manifest_sha256": sha256_hex(manifest)}).encode(),
    )
    with pytest.raises(InvalidRecordError, match="does not match version 1"):
        load_champion(store, NAME)
