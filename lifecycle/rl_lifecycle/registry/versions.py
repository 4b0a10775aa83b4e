"""Write a version into the registry, whole or not at all, and check a version.

The order of writes is claim, files, manifest. The manifest makes the version complete. Before that
no record can name the version.
"""

from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from typing import Any, Literal

from pydantic import Field

from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.evaluation.decision_reports import Report
from rl_lifecycle.evaluation.policies import PolicyMetadata, PolicyRecord
from rl_lifecycle.experiment.spec import Artifact, Spec
from rl_lifecycle.records.record import Record, sha256_hex
from rl_lifecycle.registry.contents import VersionClaim, VersionManifest, get_manifest
from rl_lifecycle.registry.model_cards import render_model_card
from rl_lifecycle.storage.layout import (
    CARD_FILE,
    CLAIM_FILE,
    MANIFEST_FILE,
    PARAMETERS_FILE,
    POLICY_FILE,
    REPORT_FILE,
    SPEC_FILE,
    policy_prefix,
    spec_key,
    version_prefix,
    versions_prefix,
)
from rl_lifecycle.storage.object_store import ObjectStore, get, put_once
from rl_lifecycle.trials.checkpoints import CheckpointManifest

#: A version keeps the digests of this many first segments. A replay compares one of them.
MOST_DIGESTS = 32


class ImportBundle(Record):
    """The one key that names both files which `infra_bootstrap upload-policy` uploaded."""

    schema_version: Literal[1] = 1
    policy: Artifact
    parameters: Artifact


class ImportRecord(Record):
    """The record of a policy that was trained elsewhere and imported for one run.

    It corresponds to :class:`PolicyRecord`, the record of a trained policy.
    """

    schema_version: Literal[1] = 1
    experiment: str
    run: str
    trial: Literal["imported"] = "imported"
    step: Literal[0] = 0
    spec_sha256: str
    digest: str
    policy: Artifact
    parameters: Artifact
    origin: str = Field(
        min_length=3, description="where and by whom it was trained, in the importer's words"
    )
    metadata: PolicyMetadata


VersionSource = PolicyRecord | ImportRecord


def write_version(
    store: ObjectStore,
    spec: Spec,
    record: VersionSource,
    report: Artifact,
    *,
    now: datetime,
    cost_usd: float | None = None,
) -> VersionManifest:
    """Copy a candidate into the registry under the next free number, whole or not at all.

    A second call for the same candidate completes or returns the version that the first call began.

    :raises InvalidRecordError: if a file of the version holds other bytes.
    """
    version = _claim(store, spec, record)
    prefix, numeric_class = (
        version_prefix(spec.experiment.name, version),
        _numeric_class(store, record),
    )
    files = {
        POLICY_FILE: get(store, record.policy.key, record.policy.sha256).data,
        PARAMETERS_FILE: get(store, record.parameters.key, record.parameters.sha256).data,
        SPEC_FILE: get(store, spec_key(spec.experiment.name, spec.run), record.spec_sha256).data,
        REPORT_FILE: get(store, report.key, report.sha256).data,
    }
    files[CARD_FILE] = _card(
        spec, record, Report.from_json(files[REPORT_FILE], report.key), version, numeric_class
    ).encode()
    for name, data in files.items():
        if not put_once(store, prefix + name, data):
            raise InvalidRecordError(
                f"{store.uri}/{prefix}{name}", "holds other bytes than this candidate's"
            )
    imported = record if isinstance(record, ImportRecord) else None
    manifest = VersionManifest(
        experiment=spec.experiment.name,
        version=version,
        created_at=now,
        kind="imported" if imported else "trained",
        run=spec.run,
        trial=record.trial,
        trial_seed=None if imported else spec.trial(record.trial).seed,
        step=record.step,
        digest=record.digest,
        digests=_first_digests(store, spec, record),
        origin=imported.origin if imported else "",
        spec_sha256=record.spec_sha256,
        commit=spec.commit,
        image_id=spec.image_id,
        numeric_class=dict(numeric_class),
        files={name: sha256_hex(data) for name, data in files.items()},
        metadata=record.metadata,
        cost_usd=cost_usd,
    )
    if put_once(store, prefix + MANIFEST_FILE, manifest.to_json()):
        return manifest
    return get_manifest(
        store, spec.experiment.name, version
    )  # an earlier try wrote it, at another time


def verify_version(store: ObjectStore, experiment: str, version: int) -> VersionManifest:
    """Check that a version is complete and unchanged, before the pointer may name it.

    :raises MissingObjectError, CorruptArtifactError: with the file.
    :raises InvalidRecordError: if its manifest is of another version or of another policy.
    """
    manifest = get_manifest(store, experiment, version)
    if (manifest.experiment, manifest.version, manifest.metadata.digest) != (
        experiment,
        version,
        manifest.digest,
    ):
        raise InvalidRecordError(
            f"version {version} of {experiment}",
            "has the manifest of another version, or of another policy",
        )
    prefix = version_prefix(experiment, version)
    for name, sha256 in manifest.files.items():
        get(store, prefix + name, sha256)
    return manifest


def _claim(store: ObjectStore, spec: Spec, record: VersionSource) -> int:
    """Take the next free version number, or find the one that this candidate has already.

    An earlier try of this candidate took a number after the champion that the run was frozen with,
    because numbers are taken in ascending order. So older claims need not be read.
    """
    claim = VersionClaim(
        experiment=spec.experiment.name,
        run=spec.run,
        trial=record.trial,
        step=record.step,
        digest=record.digest,
    ).to_json()
    served = spec.champion.version if spec.champion else 0
    taken = _taken_versions(store, spec.experiment.name)
    for version in reversed([version for version in taken if version > served]):
        found = store.find(version_prefix(spec.experiment.name, version) + CLAIM_FILE)
        if found is not None and found.data == claim:
            return version
    version = max(taken, default=0) + 1
    while not put_once(store, version_prefix(spec.experiment.name, version) + CLAIM_FILE, claim):
        version += 1  # another promotion took this number a moment ago
    return version


def _taken_versions(store: ObjectStore, experiment: str) -> list[int]:
    """List the version numbers that are taken, in ascending order."""
    prefix = versions_prefix(experiment)
    keys = (item.key for item in store.list(prefix))
    folders = {key.removeprefix(prefix).split("/")[0] for key in keys}
    return sorted(int(folder) for folder in folders if folder.isdigit())


def _numeric_class(store: ObjectStore, record: VersionSource) -> Mapping[str, Any]:
    if isinstance(record, ImportRecord):
        return {}
    checkpoint = get(store, record.manifest.key, record.manifest.sha256)
    return CheckpointManifest.from_json(checkpoint.data, record.manifest.key).numeric_class


def _first_digests(store: ObjectStore, spec: Spec, record: VersionSource) -> dict[str, str]:
    """The digests at the ends of the trial's first segments, from its policies' records."""
    if isinstance(record, ImportRecord):
        return {}
    keys = (
        item.key
        for item in store.list(policy_prefix(spec.trial_id(record.trial)))
        if item.key.endswith(".json")
    )
    records = (
        PolicyRecord.from_json(get(store, key).data, key) for key in islice(keys, MOST_DIGESTS)
    )
    return {str(one.step): one.digest for one in records if one.step <= record.step} | {
        str(record.step): record.digest
    }


def _card(
    spec: Spec,
    record: VersionSource,
    report: Report,
    version: int,
    numeric_class: Mapping[str, Any],
) -> str:
    if isinstance(record, ImportRecord):
        origin = f"It was trained elsewhere and imported: {record.origin}"
        rebuild = (
            "It cannot be trained again from here: it was imported. Where it came from is "
            "said above."
        )
    else:
        origin = f"Trained by trial {record.trial} of run {spec.run}, step {record.step:,}."
        rebuild = (
            "On a machine of the same numeric class, with `manifest.json` and `spec.json` of this "
            "folder: "
            "`python -m rl_trainer replay --manifest manifest.json --store s3://BUCKET`. The "
            "digest must be the one below."
        )
    return render_model_card(
        spec,
        report,
        record.metadata,
        version=version,
        origin=origin,
        numeric_class=numeric_class,
        rebuild=rebuild,
    )
