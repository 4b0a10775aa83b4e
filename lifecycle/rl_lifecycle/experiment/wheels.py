"""Unpack the wheels that an experiment names."""

import io
import shutil
import tempfile
import zipfile
from pathlib import Path

from rl_lifecycle.experiment.spec import Artifact
from rl_lifecycle.storage.object_store import ObjectStore, get


def unpack_wheel(store: ObjectStore, wheel: Artifact, folder: Path) -> Path:
    """Fetch a wheel by its digest, and unpack it whole or not at all.

    :param folder: the folder for all wheels. Each wheel gets a sub-folder with its digest as name.
    :return: that sub-folder. If it exists, nothing is fetched.
    :raises MissingObjectError, CorruptArtifactError: if the wheel is missing or has another digest.
    :raises zipfile.BadZipFile: if the file is no wheel.
    """
    target = folder / wheel.sha256
    if target.is_dir():
        return target
    data = get(store, wheel.key, wheel.sha256).data
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".unpacking-"))
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            archive.extractall(temporary)  # zipfile drops absolute paths and `..`
        temporary.rename(target)
    except OSError:
        if not target.is_dir():  # else another process was faster
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target
