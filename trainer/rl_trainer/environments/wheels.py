"""Make the wheels of an experiment importable: fetch, check and unpack them."""

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

    The wheels are not installed. Their dependencies must be among the wheels or be installed.

    :param folder: where to unpack. Each wheel gets a sub-folder named after its digest.
    :raises BadInputError: if a wheel is missing or damaged, or is not a wheel.
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
        raise BadInputError(f"requirements: {wheel.key} is not a wheel") from None
