"""Promotion and rollback: the two ways to move the pointer, by compare-and-swap.

A promotion writes the claim, the files, the manifest and the pointer, in this order. With the
manifest the version is complete. The pointer is written with If-Match on the ETag that was frozen
before the evaluation. If a crash happens between two of these writes, the old champion stays in
service. A retry continues where the crash happened. It writes the same bytes, and the claim leads
it to the same folder.
"""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field

from rl_lifecycle.errors import (
    CorruptArtifactError,
    InvalidRecordError,
    MissingObjectError,
    PreconditionFailedError,
)
from rl_lifecycle.evaluation.decision_reports import Report
from rl_lifecycle.evaluation.policies import PolicyRecord, find_misplacement
from rl_lifecycle.evaluation.verdicts import Decision
from rl_lifecycle.experiment.spec import Artifact, Spec
from rl_lifecycle.experiment.wrappers import wrappers_of
from rl_lifecycle.records.record import Record, sha256_hex
from rl_lifecycle.registry.contents import (
    ChampionPointer,
    HistoryEntry,
    Move,
    VersionManifest,
    check_pointer,
    find_champion,
    get_manifest,
    mark_of,
    read_entries,
    read_history,
    refuse_lost_pointer,
    settle_history,
)
from rl_lifecycle.registry.versions import (
    ImportRecord,
    VersionSource,
    verify_version,
    write_version,
)
from rl_lifecycle.storage.layout import (
    MANIFEST_FILE,
    champion_key,
    is_report_of,
    policy_key,
    version_prefix,
)
from rl_lifecycle.storage.object_store import ObjectStore, get


class PromotionOutcome(StrEnum):
    """The outcomes of a promotion.

    Only PROMOTED moved the pointer, now or in an earlier try of the same run.
    """

    PROMOTED = "PROMOTED"
    SUPERSEDED = (
        "SUPERSEDED"  # the champion is no longer the one that the candidate was compared with
    )
    REFUSED = "REFUSED"  # this policy was rolled back before, so only a person may put it back


class Promotion(Record):
    """The result of a promotion or a rollback."""

    schema_version: Literal[1] = 1
    outcome: PromotionOutcome
    version: int | None
    uri: str | None = Field(None, description="where the champion's files are")
    digest: str | None = Field(
        None, description="of the policy that is in service now; None if nothing moved"
    )
    reason: str


def promote(
    store: ObjectStore,
    spec: Spec,
    record: VersionSource,
    report: Artifact,
    *,
    who: str,
    why: str,
    now: datetime,
    new_nonce: Callable[[], str],
    cost_usd: float | None = None,
) -> Promotion:
    """Put a candidate into service if the champion is still the one that it was compared with.

    :param spec: the run's frozen spec. Its `champion` holds the ETag that the pointer must still
        have.
    :param record: the candidate, trained in the run or imported for it.
    :param report: the report of the verdict, which must exist with this digest.
    :param now: an aware UTC datetime.
    :param new_nonce: makes the pointer's bytes unique to this write.
    :raises InvalidRecordError: if the report does not decide PROMOTE, or is of another candidate or
        another spec.
    :raises MissingObjectError, CorruptArtifactError: if a file of the candidate is missing or has
        another digest. The champion stays in service.
    """
    experiment = spec.experiment.name
    if not is_report_of(report.key, experiment, spec.run):
        raise InvalidRecordError(
            "promotion", f"{report.key} is not where the judge writes the reports of this run"
        )
    _check_candidate(spec, record)
    _check_report(
        Report.from_json(get(store, report.key, report.sha256).data, report.key), spec, record
    )
    current = find_champion(store, experiment, promoting=spec.champion is None)
    if current is not None:
        _check_current(store, current[0])
        settle_history(store, current[0])
        if current[0].digest == record.digest and _is_ours(store, current[0], spec, record):
            return _promoted(
                store, experiment, current[0].version, record.digest, "it is in service already"
            )
    frozen_etag = spec.champion.etag if spec.champion else None
    if (current[1] if current else None) != frozen_etag:
        return Promotion(
            outcome=PromotionOutcome.SUPERSEDED,
            version=None,
            reason=(
                "the champion changed since the candidate was compared with it; the next night "
                "compares again"
            ),
        )
    if current is not None and record.digest in rolled_back_digests(store, experiment):
        return Promotion(
            outcome=PromotionOutcome.REFUSED,
            version=None,
            reason=(
                f"policy {record.digest[:12]} was rolled back before; put it into service by hand "
                "if you mean it"
            ),
        )
    manifest = write_version(store, spec, record, report, now=now, cost_usd=cost_usd)
    move = Move.IMPORTED if isinstance(record, ImportRecord) else Move.PROMOTED
    entry = _entry(
        move,
        manifest,
        current[0].entry if current else None,
        now=now,
        who=who,
        why=why,
        report=report,
    )
    if not _swing(store, manifest, entry, frozen_etag, new_nonce()):
        return Promotion(
            outcome=PromotionOutcome.SUPERSEDED,
            version=manifest.version,
            reason=("another promotion came first; this version is kept, but is not in service"),
        )
    return _promoted(store, experiment, manifest.version, record.digest, why)


def roll_back(
    store: ObjectStore,
    experiment: str,
    to_version: int,
    *,
    who: str,
    why: str,
    now: datetime,
    new_nonce: Callable[[], str],
    pointer_mark: str | None = None,
) -> Promotion:
    """Put an earlier version back into service, with a reason in the history.

    Nothing moves unless the history is complete. A pointer that was edited is replaced. The
    history then names the version that was in service.

    :param why: the reason; required.
    :param pointer_mark: the mark from :func:`rl_lifecycle.registry.contents.find_pointer_mark` when
        the version was chosen. If the pointer has changed since, the outcome is SUPERSEDED. None:
        replace any champion.
    :raises InvalidRecordError: if there is no champion or no reason, or if the version is in
        service already.
    :raises MissingObjectError, CorruptArtifactError: if the version is not complete.
    """
    if not why.strip():
        raise InvalidRecordError("rollback", "needs a reason")
    last, etag, sound = _standing(store, experiment)
    if pointer_mark is not None and mark_of(etag) != pointer_mark:
        return Promotion(
            outcome=PromotionOutcome.SUPERSEDED,
            version=to_version,
            reason=(
                f"the champion changed after version {to_version} was chosen: now it is version "
                f"{last.to_version} (move {last.sequence}, "
                f"{last.move} by {last.who}), and nothing was moved; look at that version, then "
                "trigger rollback_policy again if you mean it"
            ),
        )
    if sound and last.to_version == to_version:
        raise InvalidRecordError(
            f"rollback of {experiment}", f"version {to_version} is in service already"
        )
    manifest = verify_version(store, experiment, to_version)
    entry = _entry(Move.ROLLED_BACK, manifest, last, now=now, who=who, why=why, report=None)
    if not _swing(store, manifest, entry, etag, new_nonce()):
        return Promotion(
            outcome=PromotionOutcome.SUPERSEDED,
            version=to_version,
            reason="the champion changed while it was being rolled back; look again before you "
            "repeat it",
        )
    return _promoted(store, experiment, to_version, manifest.digest, why)


def _standing(store: ObjectStore, experiment: str) -> tuple[HistoryEntry, str, bool]:
    """Find the last move, the pointer's ETag, and whether the pointer still matches that move.

    :raises InvalidRecordError: if there is no champion, or the history is not complete.
    """
    found = store.find(champion_key(experiment))
    if found is None:
        refuse_lost_pointer(store, experiment)
        raise InvalidRecordError(
            f"rollback of {experiment}", "there is no champion to roll back from"
        )
    try:
        pointer = ChampionPointer.from_json(found.data, f"{store.uri}/{champion_key(experiment)}")
        _check_current(store, pointer)
        if (pointer.entry.to_version, pointer.entry.to_digest) != (pointer.version, pointer.digest):
            raise InvalidRecordError("the pointer", "carries the history entry of another version")
    except (InvalidRecordError, MissingObjectError, CorruptArtifactError):
        entries = read_entries(store, experiment)
        if not entries:
            raise
        return entries[-1], found.etag, False
    read_entries(store, experiment, pointer.entry)
    settle_history(store, pointer)
    return pointer.entry, found.etag, True


def rolled_back_digests(store: ObjectStore, experiment: str) -> set[str]:
    """The policies that were rolled back, and were not put back by hand since then."""
    bad: set[str] = set()
    for entry in read_history(store, experiment):
        if entry.move is Move.ROLLED_BACK and entry.from_digest:
            bad.add(entry.from_digest)
        bad.discard(entry.to_digest)
    return bad


def _check_candidate(spec: Spec, record: VersionSource) -> None:
    """Check that a trained candidate is a policy of this run, with files of its own trial."""
    if isinstance(record, ImportRecord):
        return
    trial = spec.trial_id(record.trial)
    key = policy_key(trial, record.step, "json")
    if problem := find_misplacement(record, key):
        raise InvalidRecordError(key, problem)


def _check_report(report: Report, spec: Spec, record: VersionSource) -> None:
    """Check that the report decides PROMOTE for exactly this candidate."""
    if report.verdict.decision is not Decision.PROMOTE:
        raise InvalidRecordError(
            "promotion", f"the report says {report.verdict.decision}, not PROMOTE"
        )
    judged = {report.spec_sha256, record.spec_sha256, spec.sha256}
    if len(judged) > 1 or report.candidate_sha256 != record.policy.sha256:
        raise InvalidRecordError(
            "promotion", "the report is of another candidate, or of another run's spec"
        )
    if isinstance(record, PolicyRecord) and record.metadata.wrappers != wrappers_of(
        spec.hyperparameters
    ):
        raise InvalidRecordError(
            "promotion",
            "the policy names other wrappers than the spec of its run: do not use it",
        )
    if record.metadata.digest != record.digest:
        raise InvalidRecordError(
            "promotion", "the candidate's record and its policy's metadata name different digests"
        )


def _check_current(store: ObjectStore, pointer: ChampionPointer) -> None:
    """Check the version in service, so that no promotion replaces a pointer that was edited."""
    manifest = get_manifest(store, pointer.experiment, pointer.version, pointer.manifest_sha256)
    check_pointer(store, pointer.experiment, pointer, manifest)


def _swing(
    store: ObjectStore, manifest: VersionManifest, entry: HistoryEntry, etag: str | None, nonce: str
) -> bool:
    """Move the pointer.

    :return: False if another writer moved it first.
    """
    verify_version(store, manifest.experiment, manifest.version)
    # The digest is that of the stored bytes, because an older writer may have written the same
    # manifest in other bytes.
    stored = get(store, version_prefix(manifest.experiment, manifest.version) + MANIFEST_FILE).data
    pointer = ChampionPointer(
        experiment=manifest.experiment,
        version=manifest.version,
        digest=manifest.digest,
        manifest_sha256=sha256_hex(stored),
        entry=entry,
        nonce=nonce,
    )
    try:
        store.put(
            champion_key(manifest.experiment),
            pointer.to_json(),
            if_match=etag,
            if_none_match=etag is None,
        )
    except PreconditionFailedError:
        return False
    settle_history(store, pointer)
    return True


def _entry(
    move: Move,
    manifest: VersionManifest,
    before: HistoryEntry | None,
    *,
    now: datetime,
    who: str,
    why: str,
    report: Artifact | None,
) -> HistoryEntry:
    return HistoryEntry(
        sequence=before.sequence + 1 if before else 1,
        move=move,
        experiment=manifest.experiment,
        from_version=before.to_version if before else None,
        to_version=manifest.version,
        from_digest=before.to_digest if before else None,
        to_digest=manifest.digest,
        at=now,
        who=who,
        why=why,
        report=report,
    )


def _is_ours(
    store: ObjectStore, pointer: ChampionPointer, spec: Spec, record: VersionSource
) -> bool:
    manifest = get_manifest(store, pointer.experiment, pointer.version, pointer.manifest_sha256)
    return (manifest.run, manifest.trial, manifest.step) == (spec.run, record.trial, record.step)


def _promoted(
    store: ObjectStore, experiment: str, version: int, digest: str, reason: str
) -> Promotion:
    return Promotion(
        outcome=PromotionOutcome.PROMOTED,
        version=version,
        digest=digest,
        reason=reason,
        uri=f"{store.uri}/{version_prefix(experiment, version)}".rstrip("/"),
    )
