"""The artifacts of a deployment. They are built together, and the stacks get their keys."""

from pathlib import Path
from typing import NamedTuple

from infra_bootstrap.artifacts.files import ArtifactFile
from infra_bootstrap.artifacts.functions import FunctionFiles, build_functions
from infra_bootstrap.artifacts.locks import LINUX, ROOT, Platform, Target
from infra_bootstrap.artifacts.wheel_sets import TrainerWheels, build_trainer_wheels
from rl_lifecycle.experiment.spec import Artifact
from rl_lifecycle.records.record import Record


class ArtifactSet(Record):
    """Keys and digests of what was built. An Airflow task passes them to the next task as JSON."""

    trainer_wheels: Artifact
    trainer_python: str
    evaluator_code: Artifact
    evaluator_layer: Artifact
    reaper_code: Artifact
    lambda_runtime: str
    unzipped_bytes: int


class Built(NamedTuple):
    """Built artifacts, with their files on this machine."""

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
    """Build everything that machines and functions run, or find it in the cache.

    :param trainer: the machine image's Python and platform.
    :param lambda_runtime: Lambda's name of its Python, such as `python3.12`.
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
