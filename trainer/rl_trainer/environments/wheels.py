"""The wheels that an experiment names: fetched from `artifacts/`, checked, unpacked beside the
process, importable.
"""

import sys
import zipfile
from pathlib import Path

from rl_lifecycle.errors import LifecycleError
from rl_lifecycle.experiment.spec import Artifact
from rl_lifecycle.experiment.wheels import unpack_wheel
from rl_lifecycle.storage.object_store import ObjectStore
from rl_trainer.errors import BadInputError


def make_importable(
    requirements: tuple[Artifact, ...], store: ObjectStore, folder: Path
) -> list[Path]:
    """Unpack wheels and put them on `sys.path`, so that `package:Env-v0` finds its package.

    They are unpacked, not installed: their dependencies must be among them or already there.

    :param folder: where to unpack; one sub-folder a digest.
    :raises BadInputError: if a wheel is missing, damaged, or no wheel.
    """
    paths = [_unpack(wheel, store, folder) for wheel in requirements]
    for path in paths:
        if str(path) not in sys.path:
            sys.path.insert(0, str(path))
    return paths


def _unpack(wheel: Artifact, store: ObjectStore, folder: Path) -> Path:
    try:
        return unpack_wheel(store, wheel, folder)
    except LifecycleError as error:
        raise BadInputError(f"requirements: {error}") from error
    except zipfile.BadZipFile:
        raise BadInputError(f"requirements: {wheel.key} is no wheel") from None
