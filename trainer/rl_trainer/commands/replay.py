"""Train a policy again from its manifest, to show that it can be reproduced."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.registry.replays import ReplayOutcome, why_path_removed
from rl_lifecycle.storage.layout import SPEC_FILE, spec_key
from rl_lifecycle.storage.object_store import ObjectStore, get
from rl_trainer.checkpointing.numeric_class import differences, pin_threads
from rl_trainer.checkpointing.stores import open_store
from rl_trainer.environments.wheels import make_importable
from rl_trainer.errors import BadInputError


@dataclass(frozen=True)
class Claim:
    """What a manifest claims: this digest at this step of this trial."""

    trial: str | None
    trial_seed: int | None
    step: int
    digest: str
    spec_sha256: str
    numeric_class: dict[str, Any]


def replay(manifest: str, spec: str | None, store: str | None) -> dict[str, Any]:
    """Train again to the step of a manifest, and compare the digests.

    :param manifest: path of the manifest of a version or a checkpoint, or of a policy's record.
    :param spec: path of the spec.json. None means beside the manifest, or in the store.
    :return: both digests, and whether they are equal. If this release cannot train the version's
        path, nothing is trained: `digest` is empty, and `differences` says NOT_COMPARABLE and names
        the release that removed the path.
    :raises BadInputError: if the manifest or its spec is missing, or they do not belong together.
    """
    pin_threads()
    document = _read(manifest)
    claim = _claim(manifest, document)
    found = _find_spec(Path(manifest), document, claim, spec, store)
    trial = claim.trial or _trial_of_seed(found, claim.trial_seed)
    if removed := why_path_removed(claim.numeric_class):
        return _answer(trial, claim, "", [f"{ReplayOutcome.NOT_COMPARABLE}: {removed}"])
    with tempfile.TemporaryDirectory(prefix="rl-trainer-") as folder:
        opened = open_store(store) if store is not None else None
        if found.requirements:
            if opened is None:
                raise BadInputError(
                    "--store: is missing; give the store that holds the wheels of the spec"
                )
            make_importable(found.requirements, opened, Path(folder))
        digest, facts = _train_again(found, trial, claim.step, opened)
    other = differences(claim.numeric_class, facts) if claim.numeric_class else []
    return _answer(trial, claim, digest, other)


def _answer(trial: str, claim: Claim, digest: str, other: list[str]) -> dict[str, Any]:
    return {
        "trial": trial,
        "step": claim.step,
        "expected": claim.digest,
        "digest": digest,
        "equal": digest == claim.digest,
        "same_numeric_class": not other,
        "differences": other,
    }


def _train_again(
    spec: Spec, trial: str, step: int, store: ObjectStore | None
) -> tuple[str, dict[str, Any]]:
    from rl_trainer.checkpointing.digests import digest_arrays
    from rl_trainer.checkpointing.model_state import final_parameters
    from rl_trainer.checkpointing.numeric_class import numeric_class
    from rl_trainer.training.interruptions import Interruption
    from rl_trainer.training.preparation import make_trainer
    from rl_trainer.training.watch import TrainingWatch

    trainer, state, digest = make_trainer(spec, trial, store), None, ""
    for segment in range(trainer.plan.n_segments):
        trained = trainer.train(segment, state, TrainingWatch(Interruption()))
        state, digest = trained.state, digest_arrays(final_parameters(trained.state))
        if trained.step >= step:
            return digest, numeric_class(trainer.builder.device, trainer.builder.path)
    raise BadInputError(f"--manifest: step {step} is after the end of the training; check its spec")


def _read(manifest: str) -> dict[str, Any]:
    try:
        document = json.loads(Path(manifest).read_bytes())
    except (OSError, ValueError) as error:
        raise BadInputError(f"--manifest {manifest}: cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise BadInputError(f"--manifest {manifest}: is not a manifest: it must be a JSON object")
    return document


def _claim(manifest: str, document: dict[str, Any]) -> Claim:
    if document.get("kind") == "imported":
        raise BadInputError(
            f"--manifest {manifest}: the version was imported ({document.get('origin')}), so it "
            "cannot be trained again"
        )
    try:
        return Claim(
            document.get("trial"),
            document.get("trial_seed"),
            int(document["step"]),
            str(document["digest"]),
            str(document["spec_sha256"]),
            dict(document.get("numeric_class") or {}),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadInputError(
            f"--manifest {manifest}: is not a manifest of a version, a policy or a checkpoint: "
            f"{error}"
        ) from error


def _find_spec(
    manifest: Path, document: dict[str, Any], claim: Claim, spec: str | None, store: str | None
) -> Spec:
    """Find the spec, and check the digest of its stored bytes.

    The stored bytes are needed: a spec that is read and written again can get new keys, and so
    another digest.
    """
    beside = manifest.parent / SPEC_FILE
    if spec is None and beside.is_file():
        spec = str(beside)
    if spec is not None:
        where, data = spec, _spec_bytes(spec)
    elif store is not None and {"experiment", "run"} <= document.keys():
        where = spec_key(str(document["experiment"]), str(document["run"]))
        data = get(open_store(store), where).data
    else:
        raise BadInputError(
            "--spec: is missing; give the spec.json of the run, or give --store, which holds it"
        )
    if (found := sha256_hex(data)) != claim.spec_sha256:
        raise BadInputError(
            f"--spec: {where} has SHA-256 {found[:12]}…, but the manifest was made from "
            f"{claim.spec_sha256[:12]}…; give that spec.json"
        )
    return Spec.from_json(data, where)


def _spec_bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadInputError(f"--spec {path}: {error.strerror}") from error


def _trial_of_seed(spec: Spec, seed: int | None) -> str:
    for plan in spec.trials:
        if plan.seed == seed:
            return plan.name
    raise BadInputError("--manifest: names no trial of the spec; give the spec of its run")
