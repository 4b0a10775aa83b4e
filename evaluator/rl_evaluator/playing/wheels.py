"""Make an experiment's own wheels importable: fetched by digest, unpacked, one set at a time.

A Lambda container outlives an invocation and may serve another experiment next, perhaps with
another version of the same package. So the modules and registered environments of the set before
are forgotten first.
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
    """Put exactly these wheels on sys.path, behind what the evaluator itself needs.

    :param requirements: wheels, or a wheel set's `wheels.json`.
    :param folder: where to unpack; None: below the temporary folder, which is all that a Lambda may
        write.
    :raises MissingObjectError, CorruptArtifactError: if a wheel is absent, or not what was
        recorded.
    :raises InvalidWheelError: if a file is no wheel.
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
        raise InvalidWheelError(wheel.key, "is no wheel; `requirements` takes .whl files")
    try:
        return unpack_wheel(store, wheel, root)
    except zipfile.BadZipFile as error:
        raise InvalidWheelError(wheel.key, f"is no wheel: {error}") from None


def _forget(root: Path) -> None:
    """Undo the set before: its paths, its modules, and the environments that they registered."""
    sys.path[:] = [path for path in sys.path if Path(path).parent != root]
    gone = {
        name
        for name, module in list(sys.modules.items())
        if _lies_below(getattr(module, "__file__", None), root)
    }
    for name in gone:
        del sys.modules[name]
    for env_id, spec in list(gymnasium.registry.items()):
        entry = spec.entry_point
        module = (
            entry.partition(":")[0] if isinstance(entry, str) else getattr(entry, "__module__", "")
        )
        if module in gone:
            del gymnasium.registry[env_id]


def _lies_below(file: str | None, root: Path) -> bool:
    return file is not None and Path(file).is_relative_to(root)
