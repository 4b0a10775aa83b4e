"""The trainer's wheel set: everything that a machine installs beside what its image has."""

import hashlib
import json
from pathlib import Path

from infra_bootstrap.artifacts.cache import cached
from infra_bootstrap.artifacts.files import ArtifactFile
from infra_bootstrap.artifacts.installers import download_wheels
from infra_bootstrap.artifacts.locks import ROOT, Requirements, Target, read_lock
from infra_bootstrap.artifacts.own_wheels import BuiltWheel, build_wheel
from rl_lifecycle.experiment.spec import Artifact, WheelSet
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.layout import artifact_key

#: What the image has: torch with all that it requires, and boto3, which the user data needs first.
#: Other versions of torch's requirements would meet a torch that was not tested with them.
IN_IMAGE = frozenset(
    {
        "filelock",
        "fsspec",
        "jinja2",
        "mpmath",
        "networkx",
        "setuptools",
        "sympy",
        "torch",
        "triton",
        "boto3",
        "botocore",
        "jmespath",
        "python-dateutil",
        "s3transfer",
        "six",
        "urllib3",
    }
)
#: Distributions that the trainer's packages require, but that a trainer never imports: a server
#: for curves, rendering, a viewer. They are half of all files, and each file delays the boot.
NOT_NEEDED = frozenset(
    {
        "grpcio",
        "markdown",
        "markupsafe",
        "mujoco-studio",
        "pyopengl",
        "tensorboard-data-server",
        "websockets",
        "werkzeug",
    }
)
OWN = ("lifecycle", "trainer")
INDEX = "digests.json"


class TrainerWheels:
    """A built wheel set: its record, and the files that the record names."""

    def __init__(self, record: WheelSet, files: tuple[ArtifactFile, ...]) -> None:
        self.record = record
        data = record.to_json()
        self.artifact = Artifact(
            key=artifact_key(sha256_hex(data), "wheels.json"), sha256=sha256_hex(data)
        )
        #: The record's own file comes last. Where it exists, everything that it names exists, too.
        self.files = (*files, ArtifactFile(self.artifact.key, self.artifact.sha256, data=data))


def build_trainer_wheels(
    target: Target, root: Path = ROOT, cache: Path | None = None
) -> TrainerWheels:
    """Collect the locked wheels and build our own.

    :param target: the machine image's Python and platform.
    :raises BuildFailedError: if a wheel cannot be downloaded, or a package of ours is missing.
    """
    requirements = read_lock("trainer", target, without=IN_IMAGE | NOT_NEEDED)
    folder = cached(
        f"trainer-{target.python}-{target.platform.name}",
        requirements.sha256,
        lambda fresh: _download(requirements, target, fresh),
        cache,
    )
    digests: dict[str, str] = json.loads((folder / INDEX).read_text())
    files = [
        ArtifactFile(artifact_key(sha256, name), sha256, path=folder / name)
        for name, sha256 in digests.items()
    ]
    own = [build_wheel(root / project) for project in OWN]
    files += [_own_file(wheel) for wheel in own]
    wheels = digests | {wheel.file_name: wheel.sha256 for wheel in own}
    return TrainerWheels(WheelSet(python=target.python, wheels=wheels), tuple(files))


def _own_file(wheel: BuiltWheel) -> ArtifactFile:
    return ArtifactFile(artifact_key(wheel.sha256, wheel.file_name), wheel.sha256, data=wheel.data)


def _download(requirements: Requirements, target: Target, folder: Path) -> None:
    download_wheels(requirements, target, folder)
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("*.whl"))
    }
    (folder / INDEX).write_text(json.dumps(digests))
