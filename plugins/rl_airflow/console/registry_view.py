"""The registry of an experiment: the champion, its history, and the versions."""

from collections.abc import Iterable
from typing import Any

from rl_airflow.console.cached_store import Snapshot
from rl_airflow.console.problems import Problems
from rl_lifecycle.errors import MissingObjectError
from rl_lifecycle.evaluation.decision_reports import Report
from rl_lifecycle.registry.contents import (
    ChampionPointer,
    HistoryEntry,
    VersionManifest,
    check_pointer,
    find_champion,
    get_manifest,
    list_versions,
    read_entries,
    read_history,
)
from rl_lifecycle.storage.layout import (
    MANIFEST_FILE,
    REPORT_FILE,
    history_prefix,
    version_prefix,
    versions_prefix,
)
from rl_lifecycle.storage.object_store import ObjectStore


def read_champion(store: ObjectStore, experiment: str) -> ChampionPointer | None:
    """Read the pointer, and check that it matches the version that it names.

    :return: None if the experiment has no champion yet.
    :raises LifecycleError: if the pointer or its version is damaged.
    """
    found = find_champion(store, experiment)
    if found is None:
        return None
    pointer = found[0]
    try:
        manifest = get_manifest(store, experiment, pointer.version, pointer.manifest_sha256)
    except MissingObjectError as error:
        raise MissingObjectError(
            f"the champion names version {pointer.version}, and {error.uri}"
        ) from None
    check_pointer(store, experiment, pointer, manifest)
    return pointer


def describe_champion(pointer: ChampionPointer | None) -> dict[str, Any] | None:
    """Describe the champion as the pages show it."""
    if pointer is None:
        return None
    return {
        "version": pointer.version,
        "digest": pointer.digest,
        "at": pointer.entry.at.isoformat(),
        "move": pointer.entry.move.value,
        "who": pointer.entry.who,
    }


def read_versions(view: Snapshot, experiment: str) -> tuple[VersionManifest, ...]:
    """Read all complete versions, oldest first, at the same time."""
    prefix = versions_prefix(experiment)
    view.read_ahead([item for item in view.list(prefix) if item.key.endswith(f"/{MANIFEST_FILE}")])
    return list_versions(view, experiment)


def read_reports(
    view: Snapshot, experiment: str, versions: Iterable[VersionManifest]
) -> dict[int, Report]:
    """Read the report of each version: version → what its candidate was judged by."""
    keys = {one.version: version_prefix(experiment, one.version) + REPORT_FILE for one in versions}
    found = view.together(view.find, keys.values())
    return {
        version: Report.from_json(stored.data, f"{view.uri}/{key}")
        for (version, key), stored in zip(keys.items(), found, strict=True)
        if stored is not None
    }


def read_moves(view: Snapshot, experiment: str, problems: Problems) -> tuple[HistoryEntry, ...]:
    """Read all moves of the pointer, oldest first.

    If the pointer cannot be read, these are the moves that have a file.
    """
    view.read_ahead(list(view.list(history_prefix(experiment))))
    try:
        return read_history(view, experiment)
    except Exception:  # the champion's own part of the page says what is wrong with the pointer
        return problems.read(lambda: read_entries(view, experiment), ())


def describe_version(
    version: VersionManifest, run_ids: dict[str, str], served: int | None, usd: float | None
) -> Any:
    """Describe a version as the pages show it.

    :param run_ids: the run's name in the bucket → Airflow's id.
    :param served: the version in service.
    :param usd: what its run has cost.
    """
    return {
        "version": version.version,
        "run_id": run_ids.get(version.run, version.run),
        "trial": version.trial,
        "step": version.step,
        "at": version.created_at.isoformat(),
        "usd": usd,
        "in_service": version.version == served,
    }
