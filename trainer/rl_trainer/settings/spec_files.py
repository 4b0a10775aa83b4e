"""Read the spec of a training: a frozen spec.json, or an experiment's YAML file."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from rl_lifecycle.errors import LifecycleError
from rl_lifecycle.experiment.files import SUFFIXES, read_experiment_file
from rl_lifecycle.experiment.spec import Artifact, Spec, freeze_spec
from rl_lifecycle.storage.layout import SPECS, artifact_key, spec_key
from rl_lifecycle.storage.object_store import ObjectStore, get, put_once
from rl_lifecycle.storage.s3_store import split_s3_uri
from rl_trainer.checkpointing.stores import open_store
from rl_trainer.errors import BadInputError

#: The run id and the time in a spec that the trainer freezes from an experiment file. The time is
#: constant, so that the same file always gives the same bytes.
LOCAL_RUN = "local"
LOCAL_CREATED_AT = datetime(2000, 1, 1, tzinfo=UTC)


def load_spec(where: str, store: ObjectStore) -> Spec:
    """Read a spec, or freeze an experiment file as the run `local`.

    :param where: path of a spec.json or of an experiment's YAML, `s3://…/spec.json`, or a key such
        as `specs/e/r/spec.json`.
    :raises BadInputError: if the spec does not exist or is not valid. The message is one line.
    """
    try:
        if where.endswith(SUFFIXES):
            return _frozen_locally(Path(where), store)
        return Spec.from_json(_spec_bytes(where, store), where)
    except LifecycleError as error:
        raise BadInputError(str(error)) from error


def _spec_bytes(where: str, store: ObjectStore) -> bytes:
    if where.startswith("s3://"):
        bucket, key = split_s3_uri(where)
        folder, _, name = key.rstrip("/").rpartition("/")
        return get(open_store(f"s3://{bucket}/{folder}"), name).data
    path = Path(where)
    if path.is_file():
        return path.read_bytes()
    if where.startswith(SPECS):
        return get(store, where).data
    raise BadInputError(
        f"--spec {where}: no such file; give a spec.json, an experiment's YAML, or a key below "
        f"{SPECS}"
    )


def _frozen_locally(path: Path, store: ObjectStore) -> Spec:
    experiment = read_experiment_file(path)
    wheels = tuple(_store_wheel(path, wheel, store) for wheel in experiment.requirements)
    spec = freeze_spec(
        experiment,
        run_id=LOCAL_RUN,
        created_at=LOCAL_CREATED_AT,
        requirements=wheels,
        source=str(path),
    )
    key = spec_key(experiment.name, spec.run)
    if not put_once(store, key, spec.to_json()):
        stored = Spec.from_json(get(store, key).data, f"{store.uri}/{key}")
        raise BadInputError(
            f"{path}: {_changed_key(stored, spec)} differs from {store.uri}/{key}, the spec of an "
            "earlier training; choose another --store, or undo the change"
        )
    return spec


def _store_wheel(experiment_file: Path, wheel: str, store: ObjectStore) -> Artifact:
    path = experiment_file.parent / wheel
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInputError(
            f"{experiment_file}: requirements: {wheel} cannot be read: {error.strerror}"
        ) from error
    sha256 = hashlib.sha256(data).hexdigest()
    key = artifact_key(sha256, path.name)
    put_once(store, key, data)
    return Artifact(key=key, sha256=sha256)


def _changed_key(stored: Spec, now: Spec) -> str:
    """Return the first key of the experiment whose value has changed."""
    before, after = (
        stored.experiment.model_dump(mode="json"),
        now.experiment.model_dump(mode="json"),
    )
    for key in after:
        if before.get(key) != after[key]:
            return key
    return "the frozen spec"
