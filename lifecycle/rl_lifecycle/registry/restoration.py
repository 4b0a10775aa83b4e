"""Restore a pointer that was lost, from the history.

The bucket's policy refuses to delete the pointer, and a directory has no such policy. A bucket can
lose it, too: with a copy to another account, or by a policy that was changed.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rl_lifecycle.errors import InvalidRecordError, PreconditionFailedError
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.registry.contents import (
    ChampionPointer,
    HistoryEntry,
    check_pointer,
    get_manifest,
    list_versions,
    read_entries,
    refuse_lost_pointer,
)
from rl_lifecycle.registry.versions import verify_version
from rl_lifecycle.storage.layout import MANIFEST_FILE, champion_key, version_prefix
from rl_lifecycle.storage.object_store import ObjectStore, get


class Restoration(NamedTuple):
    """The version that the pointer names now, and whether the pointer had to be restored."""

    experiment: str
    version: int
    restored: bool
    reason: str


def restore_champion(
    store: ObjectStore, experiment: str, *, new_nonce: Callable[[], str]
) -> Restoration:
    """Write the pointer of the last move again, if the pointer is gone.

    The history gets no new entry, because nothing moves. The pointer gets another ETag. So a run
    that was frozen before the loss is SUPERSEDED, and the next run compares again. A pointer that
    is there stays as it is.

    :param new_nonce: makes the pointer's bytes unique to this write.
    :raises LostPointerError: if the history is gone, too, and there is a complete version.
    :raises InvalidRecordError: if there is no history, or an entry is missing, or the version is
        not the one that the history names, or the pointer that is there was edited.
    :raises MissingObjectError, CorruptArtifactError: if the version is not complete.
    """
    key = champion_key(experiment)
    if (there := _standing(store, experiment)) is not None:
        return there
    entries = read_entries(store, experiment)
    if not entries:
        refuse_lost_pointer(store, experiment)
        raise InvalidRecordError(
            f"{store.uri}/{key}",
            "cannot be restored: the experiment has no history, so no version was in service",
        )
    pointer = _pointer_of(store, experiment, entries[-1], new_nonce())
    try:
        store.put(key, pointer.to_json(), if_none_match=True)
    except PreconditionFailedError:
        if (there := _standing(store, experiment)) is not None:
            return there
        raise
    entry = pointer.entry
    return Restoration(
        experiment=experiment,
        version=pointer.version,
        restored=True,
        reason=f"move {entry.sequence}, {entry.move} by {entry.who} at {entry.at:%Y-%m-%d %H:%M}"
        + _hint(store, experiment, entries),
    )


def _hint(store: ObjectStore, experiment: str, entries: Sequence[HistoryEntry]) -> str:
    """Name the complete versions that are newer than every version of the history.

    A promotion that came second leaves such a version, and so does a history that lost its newest
    entry.
    """
    newest = max(entry.to_version for entry in entries)
    unnamed = [one.version for one in list_versions(store, experiment) if one.version > newest]
    if not unnamed:
        return ""
    listed = " and ".join(str(version) for version in unnamed)
    verb = "is" if len(unnamed) == 1 else "are"
    return (
        f"; version {listed} {verb} complete but in no history entry: compare with the older "
        "versions of champion.json, and put back what was in service with the DAG rollback_policy"
    )


def _standing(store: ObjectStore, experiment: str) -> Restoration | None:
    found = store.find(champion_key(experiment))
    if found is None:
        return None
    pointer = ChampionPointer.from_json(found.data, f"{store.uri}/{champion_key(experiment)}")
    manifest = get_manifest(store, experiment, pointer.version, pointer.manifest_sha256)
    check_pointer(store, experiment, pointer, manifest)
    return Restoration(
        experiment=experiment,
        version=pointer.version,
        restored=False,
        reason="the pointer is there; it was not changed",
    )


def _pointer_of(
    store: ObjectStore, experiment: str, entry: HistoryEntry, nonce: str
) -> ChampionPointer:
    """Make the pointer of a move, after a check of every file of its version."""
    manifest = verify_version(store, experiment, entry.to_version)
    stored = get(store, version_prefix(experiment, entry.to_version) + MANIFEST_FILE).data
    pointer = ChampionPointer(
        experiment=experiment,
        version=entry.to_version,
        digest=entry.to_digest,
        manifest_sha256=sha256_hex(stored),
        entry=entry,
        nonce=nonce,
    )
    check_pointer(store, experiment, pointer, manifest)
    return pointer


def describe_restoration(done: Restoration) -> str:
    """Describe in one line what was done."""
    what = "restored" if done.restored else "unchanged"
    return f"{done.experiment}: {what}, version {done.version} is in service ({done.reason})"
