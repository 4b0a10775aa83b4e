"""Using the policy in service: load it, verify it, and notice when another one replaces it.

This is for consumers. They need neither torch nor Airflow, only a store and an ONNX runtime.
docs/examples/drive_champion.py is a complete consumer. If `metadata.action_masks` is true, the
policy also needs the environment's `action_masks()` at every step.
"""

from dataclasses import dataclass
from datetime import datetime

from rl_lifecycle.errors import InvalidRecordError, MissingObjectError
from rl_lifecycle.evaluation.action_masks import check_mask_input
from rl_lifecycle.evaluation.policies import PolicyMetadata
from rl_lifecycle.registry.contents import (
    VersionManifest,
    check_pointer,
    find_champion,
    get_manifest,
)
from rl_lifecycle.storage.layout import PARAMETERS_FILE, POLICY_FILE, champion_key, version_prefix
from rl_lifecycle.storage.object_store import ObjectStore, get


@dataclass(frozen=True)
class LoadedChampion:
    """A champion whose files were verified. Keep it until you have loaded a newer one."""

    experiment: str
    version: int
    digest: str
    onnx: bytes
    metadata: PolicyMetadata
    in_service_since: datetime
    uri: str
    etag: str


def load_champion(store: ObjectStore, experiment: str) -> LoadedChampion:
    """Load the policy in service, and check every digest from the pointer to its bytes.

    :raises MissingObjectError: if there is no champion yet, or one of its files is missing.
    :raises CorruptArtifactError: if a file has another digest.
    :raises InvalidRecordError: if the pointer was edited, so that it does not match its version, or
        if the policy was trained under action masks and its file does not take them.
    """
    found = find_champion(store, experiment)
    if found is None:
        raise MissingObjectError(f"{store.uri}/{champion_key(experiment)}")
    pointer, etag = found
    manifest = get_manifest(store, experiment, pointer.version, pointer.manifest_sha256)
    check_pointer(store, experiment, pointer, manifest)
    prefix = version_prefix(experiment, pointer.version)
    check_mask_input(manifest.metadata, f"{store.uri}/{prefix}{POLICY_FILE}")
    return LoadedChampion(
        experiment=experiment,
        version=pointer.version,
        digest=pointer.digest,
        onnx=get(store, prefix + POLICY_FILE, _recorded(manifest, POLICY_FILE)).data,
        metadata=manifest.metadata,
        in_service_since=pointer.entry.at,
        uri=f"{store.uri}/{prefix}".rstrip("/"),
        etag=etag,
    )


def refresh_champion(store: ObjectStore, champion: LoadedChampion) -> LoadedChampion:
    """Load the policy that is in service now.

    If the pointer has not moved, this returns the same object after one read.

    :raises LifecycleError: as :func:`load_champion`. The given champion stays usable. A consumer
        that must not stop can continue to use it, and try again later.
    """
    found = find_champion(store, champion.experiment)
    if found is not None and found[1] == champion.etag:
        return champion
    return load_champion(store, champion.experiment)


def load_parameters(store: ObjectStore, champion: LoadedChampion) -> bytes:
    """Load the champion's parameters (safetensors), for a warm start.

    :raises MissingObjectError, CorruptArtifactError: if the file is missing or has another digest.
    """
    manifest = get_manifest(store, champion.experiment, champion.version)
    key = version_prefix(champion.experiment, champion.version) + PARAMETERS_FILE
    return get(store, key, _recorded(manifest, PARAMETERS_FILE)).data


def _recorded(manifest: VersionManifest, file: str) -> str:
    if file not in manifest.files:
        raise InvalidRecordError(
            f"version {manifest.version} of {manifest.experiment}", f"has no {file} in its manifest"
        )
    return manifest.files[file]
