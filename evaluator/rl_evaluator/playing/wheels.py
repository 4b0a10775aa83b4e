"""Make an experiment's own wheels importable: fetch by digest, check, unpack, one set at a time.

A Lambda container outlives an invocation. The next invocation may be for another experiment, with
another version of the same package. So the modules and the registered environments of the previous
set are removed first.
"""

import importlib
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import gymnasium

from rl_evaluator.errors import InvalidWheelError
from rl_lifecycle.experiment.spec import Artifact, WheelSet
from rl_lifecycle.experiment.wheels import unpack_wheel
from rl_lifecycle.storage.layout import artifact_key
from rl_lifecycle.storage.object_store import ObjectStore, get

FOLDER = "nightshift-wheels"


def use_wheels(
    store: ObjectStore, requirements: Sequence[Artifact], folder: Path | None = None
) -> None:
    """Put exactly these wheels on sys.path, after the evaluator's own packages.

    :param requirements: wheels, or the `wheels.json` of a wheel set.
    :param folder: folder to unpack into; None for the temporary folder, the only folder that a
        Lambda may write.
    :raises MissingObjectError: if a wheel is absent.
    :raises CorruptArtifactError: if a wheel does not have the recorded digest.
    :raises InvalidWheelError: if a file is not a wheel.
    """
    root = (folder or Path(tempfile.gettempdir())) / FOLDER
    wanted = [str(_unpack(store, wheel, root)) for wheel in _expand(store, requirements)]
    present = [path for path in sys.path if Path(path).parent == root]
    if present != wanted:
        _forget(root)
        sys.path.extend(wanted)
        importlib.invalidate_caches()


def _expand(store: ObjectStore, requirements: Sequence[Artifact]) -> list[Artifact]:
    wheels: list[Artifact] = []
    for artifact in requirements:
        if artifact.key.endswith(".json"):
            found = WheelSet.from_json(get(store, artifact.key, artifact.sha256).data, artifact.key)
            wheels.extend(
                Artifact(key=artifact_key(sha256, name), sha256=sha256)
                for name, sha256 in found.wheels.items()
            )
        else:
            wheels.append(artifact)
    return wheels


def _unpack(store: ObjectStore, wheel: Artifact, root: Path) -> Path:
    if not wheel.key.endswith(".whl"):
        raise InvalidWheelError(wheel.key, "is not a wheel; `requirements` takes .whl files")
    try:
        return unpack_wheel(store, wheel, root)
    except zipfile.BadZipFile as error:
        raise InvalidWheelError(wheel.key, f"is not a wheel: {error}") from None


def _forget(root: Path) -> None:
    """Remove the previous set: its paths, its modules, and the environments they registered."""
    sys.path[:] = [path for path in sys.path if Path(path).parent != root]

    removed = {
        name
        for name, module in list(sys.modules.items())
        if _lies_below(getattr(module, "__file__", None), root)
    }
    for name in removed:
        del sys.modules[name]

    for env_id, spec in list(gymnasium.registry.items()):
        entry = spec.entry_point
        module = (
            entry.partition(":")[0] if isinstance(entry, str) else getattr(entry, "__module__", "")
        )
        if module in removed:
            del gymnasium.registry[env_id]


def _lies_below(file: str | None, root: Path) -> bool:
    return file is not None and Path(file).is_relative_to(root)
