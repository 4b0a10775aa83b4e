"""The records of the registry, and how to read them.

The registry holds versions that never change, one pointer, and a history to which entries are only
added.
"""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field, JsonValue

from rl_lifecycle.errors import InvalidRecordError, LostPointerError
from rl_lifecycle.evaluation.policies import PolicyMetadata
from rl_lifecycle.experiment.experiment import Experiment
from rl_lifecycle.experiment.spec import Artifact, Champion, Spec
from rl_lifecycle.records.record import Record, sha256_hex
from rl_lifecycle.storage.layout import (
    MANIFEST_FILE,
    PARAMETERS_FILE,
    POLICY_FILE,
    SPEC_FILE,
    champion_key,
    history_key,
    history_prefix,
    version_prefix,
    versions_prefix,
)
from rl_lifecycle.storage.object_store import ObjectStore, get


class Move(StrEnum):
    """Why the pointer moved."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    IMPORTED = "imported"  # a policy from elsewhere, which passed the same gate


class VersionClaim(Record):
    """The owner of a version number.

    It is written first and only once, so two promotions never share a folder.
    """

    schema_version: Literal[1] = 1
    experiment: str
    run: str
    trial: str
    step: int
    digest: str


class VersionManifest(Record):
    """Everything that is needed to use a version, to check it, and to train it again.

    It is written last and makes the version complete.
    """

    schema_version: Literal[1] = 1
    experiment: str
    version: int
    created_at: datetime
    kind: Literal["trained", "imported"] = "trained"
    run: str
    trial: str
    trial_seed: int | None = Field(
        description="None for an import, which cannot be trained again here"
    )
    step: int
    digest: str
    digests: dict[str, str] = Field(
        {}, description="step → digest at the ends of its first segments, for a partial replay"
    )
    origin: str = Field(
        "", description="where an imported policy came from, in the importer's words"
    )
    spec_sha256: str
    commit: str | None
    image_id: str | None
    numeric_class: dict[str, JsonValue] = {}
    files: dict[str, str] = Field(description="file name → SHA-256")
    metadata: PolicyMetadata
    cost_usd: float | None = None


class HistoryEntry(Record):
    """One move of the pointer."""

    schema_version: Literal[1] = 1
    sequence: int
    move: Move
    experiment: str
    from_version: int | None
    to_version: int
    from_digest: str | None
    to_digest: str
    at: datetime
    who: str
    why: str
    report: Artifact | None = None


class ChampionPointer(Record):
    """The version in service, with the history entry of the move that put it there.

    The entry is part of the pointer, so pointer and history always agree. If a writer dies before
    it writes the entry's own file, every reader of the pointer can write that file.
    """

    schema_version: Literal[1] = 1
    experiment: str
    version: int
    digest: str
    manifest_sha256: str
    entry: HistoryEntry
    nonce: str


def find_champion(
    store: ObjectStore, experiment: str, *, promoting: bool = False
) -> tuple[ChampionPointer, str] | None:
    """Read the pointer and its ETag.

    :param promoting: whether the promotion of a first candidate asks: only the history counts.
    :return: None if the experiment has no champion yet.
    :raises LostPointerError: if the history or a complete version says that it has one.
    """
    key = champion_key(experiment)
    found = store.find(key)
    if found is None:
        refuse_lost_pointer(store, experiment, promoting=promoting)
        return None
    return ChampionPointer.from_json(found.data, f"{store.uri}/{key}"), found.etag


def refuse_lost_pointer(store: ObjectStore, experiment: str, *, promoting: bool = False) -> None:
    """Check that an experiment without a pointer has no history and no complete version either.

    :param promoting: whether the promotion of a first candidate asks. There was no version when
        its run was frozen, so a version without a pointer is its own, or that of another promotion
        which is under way or was cut off. Only the history counts then.
    :raises LostPointerError: if it has one of them, and the pointer is still missing.
    """
    key = champion_key(experiment)
    has_history = next(iter(store.list(history_prefix(experiment))), None) is not None
    evidence = None if has_history or promoting else _newest_version(store, experiment)
    # A first promotion that is under way writes the pointer before the history.
    if (has_history or evidence) and store.find(key) is None:
        raise LostPointerError(f"{store.uri}/{key}", experiment, store.uri, evidence=evidence)


def _newest_version(store: ObjectStore, experiment: str) -> str | None:
    """Describe the newest complete version. :return: None if there is none."""
    versions = list_versions(store, experiment)
    return f"version {versions[-1].version} of run {versions[-1].run}" if versions else None


def find_pointer_mark(store: ObjectStore, experiment: str) -> str | None:
    """Compute a mark of eight digits for the present state of the pointer.

    Each write gives another mark, also for the same version or after an edit by hand.

    :return: None if the experiment has no champion yet.
    """
    found = store.find(champion_key(experiment))
    return mark_of(found.etag) if found else None


def mark_of(etag: str) -> str:
    """Shorten a pointer's ETag to eight digits, which are shown to a person beside a choice."""
    return sha256_hex(etag.encode())[:8]


def get_manifest(
    store: ObjectStore, experiment: str, version: int, sha256: str | None = None
) -> VersionManifest:
    """Read the manifest of a version.

    :param sha256: its digest, as the pointer records it. If it is None, it is not checked.
    :raises MissingObjectError: if the version is not complete.
    :raises CorruptArtifactError: if the manifest was changed.
    """
    key = version_prefix(experiment, version) + MANIFEST_FILE
    return VersionManifest.from_json(get(store, key, sha256).data, f"{store.uri}/{key}")


def check_pointer(
    store: ObjectStore, experiment: str, pointer: ChampionPointer, manifest: VersionManifest
) -> None:
    """Compare a pointer with the version that it names.

    :raises InvalidRecordError: if they differ. Then no policy is compared with this champion, or
        served as this champion.
    """
    named = (pointer.experiment, pointer.version, pointer.digest)
    if (
        named != (experiment, manifest.version, manifest.digest)
        or manifest.metadata.digest != manifest.digest
    ):
        raise InvalidRecordError(
            f"{store.uri}/{champion_key(experiment)}",
            f"does not match version {pointer.version}, which it "
            "names: it was edited; put a version back with the DAG rollback_policy",
        )


def freeze_champion(
    store: ObjectStore, experiment: Experiment, *, new_lineage: str = ""
) -> Champion | None:
    """Fix the champion that a run's candidate is compared with, and the ETag for the promotion.

    A champion of another environment or another return range cannot be compared. It stays in
    service until a candidate exceeds the absolute bar and begins a new lineage.

    :param new_lineage: why a person wants the candidate to be judged without the champion; empty:
        the champion is left out only if it cannot be compared.
    :return: None if the experiment has no champion yet.
    :raises MissingObjectError: if the pointer names a version that is not complete.
    :raises InvalidRecordError: if the pointer was edited.
    """
    found = find_champion(store, experiment.name)
    if found is None:
        return None
    pointer, etag = found
    manifest = get_manifest(store, experiment.name, pointer.version, pointer.manifest_sha256)
    check_pointer(store, experiment.name, pointer, manifest)
    prefix = version_prefix(experiment.name, pointer.version)
    before = Spec.from_json(
        get(store, prefix + SPEC_FILE, manifest.files[SPEC_FILE]).data, prefix + SPEC_FILE
    )
    return Champion(
        version=pointer.version,
        etag=etag,
        digest=manifest.digest,
        policy=Artifact(key=prefix + POLICY_FILE, sha256=manifest.files[POLICY_FILE]),
        parameters=Artifact(key=prefix + PARAMETERS_FILE, sha256=manifest.files[PARAMETERS_FILE]),
        new_lineage=explain_new_lineage(before.experiment, experiment) or new_lineage,
    )


def explain_new_lineage(before: Experiment, now: Experiment) -> str:
    """Explain why two policies cannot be compared. The text is empty if they can.

    Policies with different wheels of the environment can be compared, because both are evaluated
    with the candidate's wheel.
    """
    if (before.env_id, before.env_kwargs) != (now.env_id, now.env_kwargs):
        return (
            f"the champion was trained on {before.env_id} with other settings than "
            f"{now.env_id} has now"
        )
    if before.evaluation.return_range != now.evaluation.return_range:
        return (
            f"the champion was judged on the return range {before.evaluation.return_range}, "
            f"not {now.evaluation.return_range}"
        )
    return ""


def list_versions(store: ObjectStore, experiment: str) -> tuple[VersionManifest, ...]:
    """Read the manifests of all complete versions, oldest first."""
    found = []
    for item in store.list(versions_prefix(experiment)):
        if item.key.endswith(f"/{MANIFEST_FILE}"):
            found.append(
                VersionManifest.from_json(get(store, item.key).data, f"{store.uri}/{item.key}")
            )
    return tuple(found)


def read_history(store: ObjectStore, experiment: str) -> tuple[HistoryEntry, ...]:
    """Read every move of the pointer, oldest first.

    The newest move is included even if its own file was not written yet.

    :raises InvalidRecordError: if an entry in the middle is missing.
    """
    champion = find_champion(store, experiment)
    return read_entries(store, experiment, champion[0].entry if champion else None)


def read_entries(
    store: ObjectStore, experiment: str, newest: HistoryEntry | None = None
) -> tuple[HistoryEntry, ...]:
    """Read every entry of the history that has a file, and add the newest one.

    :param newest: the entry of the pointer. None means that only the files are read.
    :raises InvalidRecordError: if an entry in the middle is missing.
    """
    prefix = history_prefix(experiment)
    entries = {newest.sequence: newest} if newest else {}
    for item in store.list(prefix):
        entry = HistoryEntry.from_json(get(store, item.key).data, f"{store.uri}/{item.key}")
        entries.setdefault(entry.sequence, entry)
    if sorted(entries) != list(range(1, len(entries) + 1)):
        raise InvalidRecordError(
            f"{store.uri}/{prefix}",
            "an entry is missing: restore it from the bucket's object versions",
        )
    return tuple(entries[sequence] for sequence in sorted(entries))


def settle_history(store: ObjectStore, pointer: ChampionPointer) -> None:
    """Write the file of the history entry in the pointer, unless it exists.

    :raises InvalidRecordError: if the file holds another entry.
    """
    key = history_key(pointer.experiment, pointer.entry.sequence)
    data = pointer.entry.to_json()
    there = store.find(key)
    if there is None:
        store.put(key, data, if_none_match=True)
    elif there.data != data:
        raise InvalidRecordError(
            f"{store.uri}/{key}",
            "differs from the entry in the pointer: it was edited; "
            "restore it from the bucket's object versions",
        )
