"""Read what a store holds, without loading torch."""

from typing import Any

from rl_lifecycle.evaluation.policies import PolicyRecord
from rl_lifecycle.storage.layout import (
    CHECKPOINTS,
    HEARTBEATS,
    TrialId,
    head_key,
    is_head_key,
    policy_key,
    trial_of_key,
)
from rl_lifecycle.storage.object_store import ObjectStore, get
from rl_lifecycle.trials.checkpoints import CheckpointManifest, Head
from rl_trainer.checkpointing.stores import open_store
from rl_trainer.errors import BadInputError


def read_digest(
    uri: str, experiment: str | None, run: str | None, trial: str | None
) -> dict[str, Any]:
    """Return the digest of a trial's newest checkpoint.

    `experiment`, `run` and `trial` may be None if the store holds only one trial that fits.

    :raises BadInputError: if no trial fits, or more than one.
    """
    store = open_store(uri)
    found = choose_trial(store, experiment, run, trial)
    head = Head.from_json(get(store, head_key(found)).data, head_key(found))
    if head.manifest_key is None:
        raise BadInputError(f"{found} has no checkpoint yet; wait for its first segment")
    data = get(store, head.manifest_key, head.manifest_sha256).data
    manifest = CheckpointManifest.from_json(data, head.manifest_key)
    return {
        "experiment": found.experiment,
        "run": found.run,
        "trial": found.trial,
        "step": manifest.step,
        "digest": manifest.digest,
        "final": _is_final(store, found, manifest.step),
        "attempt": manifest.attempt,
        "comparable": not manifest.numeric_class.get("mixed", False),
    }


def choose_trial(
    store: ObjectStore, experiment: str | None, run: str | None, trial: str | None
) -> TrialId:
    """Find the only trial of a store that fits the given names. None fits any name.

    :raises BadInputError: if no trial fits, or more than one.
    """
    fitting = [
        found
        for found in list_trials(store)
        if experiment in (None, found.experiment)
        and run in (None, found.run)
        and trial in (None, found.trial)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise BadInputError(f"{store.uri} holds no such trial; train it first")
    known = ", ".join(str(found) for found in fitting[:5])
    raise BadInputError(
        f"{store.uri} holds {len(fitting)} such trials ({known}); choose one with --trial, --run "
        "and --experiment"
    )


def list_trials(store: ObjectStore) -> list[TrialId]:
    """List all trials of a store by their heartbeats, with one listing of keys.

    A store without heartbeats is listed by the heads of its checkpoints.
    """
    keys = [info.key for info in store.list(HEARTBEATS)]
    trials = {trial_of_key(key, HEARTBEATS) for key in keys}
    if not trials:
        trials = {
            trial_of_key(info.key, CHECKPOINTS)
            for info in store.list(CHECKPOINTS)
            if is_head_key(info.key)
        }
    return sorted(trials)


def _is_final(store: ObjectStore, trial: TrialId, step: int) -> bool:
    key = policy_key(trial, step, "json")
    record = store.find(key)
    return record is not None and PolicyRecord.from_json(record.data, key).final
