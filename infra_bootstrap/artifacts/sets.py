"""All artifacts of a deployment: built together, uploaded, and handed to the stacks by key."""

from pathlib import Path
from typing import NamedTuple

from infra_bootstrap.artifacts.files import ArtifactFile
from infra_bootstrap.artifacts.functions import FunctionFiles, build_functions
from infra_bootstrap.artifacts.locks import LINUX, ROOT, Platform, Target
from infra_bootstrap.artifacts.wheel_sets import TrainerWheels, build_trainer_wheels
from rl_lifecycle.experiment.spec import Artifact
from rl_lifecycle.records.record import Record, sha256_hex


class ArtifactSet(Record):
    """Keys and digests of what was built. Small, and JSON: an Airflow task hands it to the next."""

    trainer_wheels: Artifact
    trainer_python: str
    evaluator_code: Artifact
    evaluator_layer: Artifact
    reaper_code: Artifact
    lambda_runtime: str
    unzipped_bytes: int

    @property
    def version_label(self) -> str:
        """Names what a version of the evaluator is made of; another label publishes another
        version.
        """
        made_of = f"{self.evaluator_code.sha256}{self.evaluator_layer.sha256}{self.lambda_runtime}"
        return (
            f"code {self.evaluator_code.sha256[:12]} layer {self.evaluator_layer.sha256[:12]} "
            f"{self.lambda_runtime} "
            f"({sha256_hex(made_of.encode())[:8]})"
        )


class Built(NamedTuple):
    """Artifacts on this machine."""

    artifacts: ArtifactSet
    functions: tuple[ArtifactFile, ...]
    wheels: tuple[ArtifactFile, ...]


def build(
    trainer: Target,
    lambda_runtime: str,
    lambda_platform: Platform = LINUX,
    root: Path = ROOT,
    cache: Path | None = None,
) -> Built:
    """Build, or find in the cache, everything that machines and functions run.

    :param trainer: the machine image's Python and platform.
    :param lambda_runtime: such as `python3.12`.
    :raises BuildFailedError: if something cannot be built.
    """
    functions = build_functions(
        Target(lambda_runtime.removeprefix("python"), lambda_platform), root, cache
    )
    wheels = build_trainer_wheels(trainer, root, cache)
    return Built(
        _describe(functions, wheels, lambda_runtime),
        (functions.layer, functions.reaper, functions.evaluator),
        wheels.files,
    )


def _describe(functions: FunctionFiles, wheels: TrainerWheels, lambda_runtime: str) -> ArtifactSet:
    return ArtifactSet(
        trainer_wheels=wheels.artifact,
        trainer_python=wheels.record.python,
        evaluator_code=_artifact(functions.evaluator),
        evaluator_layer=_artifact(functions.layer),
        reaper_code=_artifact(functions.reaper),
        lambda_runtime=lambda_runtime,
        unzipped_bytes=functions.unzipped_bytes,
    )


def _artifact(file: ArtifactFile) -> Artifact:
    return Artifact(key=file.key, sha256=file.sha256)
