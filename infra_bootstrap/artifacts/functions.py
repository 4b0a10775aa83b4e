"""Build what Lambda runs: the evaluator's zip and layer, and the reaper's zip."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from infra_bootstrap.artifacts.archives import Entry, package_entries, zip_bytes
from infra_bootstrap.artifacts.cache import cached
from infra_bootstrap.artifacts.files import ArtifactFile
from infra_bootstrap.artifacts.installers import install_wheels
from infra_bootstrap.artifacts.locks import ROOT, Requirements, Target, read_lock
from infra_bootstrap.errors import BuildFailedError
from rl_lifecycle.storage.layout import artifact_key

#: Lambda's limit on the unzipped function with all its layers.
#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
MOST_UNZIPPED_BYTES = 262_144_000
#: Folders that the evaluation of a policy does not need, relative to the layer's `python/`.
TRIMMED_FOLDERS = (
    "bin",
    "numpy/f2py",
    "numpy/_core/include",
    "numpy/_core/lib",
    "numpy/random/lib",
    "numpy/distutils",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    "onnxruntime/quantization",
    "onnxruntime/backend",
    "onnxruntime/datasets",
    "onnx/backend",
    "onnx/reference",
    "onnx/test",
    "pygame/docs",
    "pygame/examples",
)
#: Folders with these names are left out, too, at any depth.
TRIMMED_NAMES = frozenset({"tests", "testing_data", "__pycache__"})
TRIMMED_SUFFIXES = (".pyi", ".pyx", ".pxd", ".h", ".a")
TRIMMED_FILES = frozenset({"INSTALLER", "REQUESTED", "direct_url.json", ".lock"})
#: The version of the trimming rules. Raise it when they change, so that no old layer is used.
TRIMMING = "2"


class FunctionFiles(NamedTuple):
    """The files that the functions of the evaluation stack are made of."""

    evaluator: ArtifactFile
    layer: ArtifactFile
    reaper: ArtifactFile
    unzipped_bytes: int


def build_functions(target: Target, root: Path = ROOT, cache: Path | None = None) -> FunctionFiles:
    """Build the zips and the layer for a Lambda runtime.

    :raises BuildFailedError: if a part is missing, or if evaluator and layer together are larger
        than Lambda allows.
    """
    code = [
        *package_entries(root / "evaluator" / "rl_evaluator"),
        *package_entries(root / "lifecycle" / "rl_lifecycle"),
    ]
    reaper = [Entry("reaper.py", (Path(__file__).parents[1] / "reaper" / "reaper.py").read_bytes())]
    if not any(entry.name == "rl_evaluator/handler.py" for entry in code):
        raise BuildFailedError("evaluator zip", "evaluator/rl_evaluator/handler.py is missing")
    requirements = read_lock("evaluator", target)
    key = hashlib.sha256(
        f"{requirements.sha256}{target.python}{target.platform.name}{TRIMMING}".encode()
    ).hexdigest()
    folder = cached(
        f"layer-{target.python}-{target.platform.name}",
        key,
        lambda fresh: _build_layer(requirements, target, fresh),
        cache,
    )
    facts = json.loads((folder / "facts.json").read_text())
    unzipped = facts["unzipped_bytes"] + sum(len(entry.data) for entry in code)
    check_size(unzipped)
    layer = ArtifactFile(
        artifact_key(facts["sha256"], "layer.zip"), facts["sha256"], path=folder / "layer.zip"
    )
    return FunctionFiles(
        _zip_file("evaluator.zip", code), layer, _zip_file("reaper.zip", reaper), unzipped
    )


def check_size(unzipped_bytes: int) -> None:
    """Check the unzipped size of the evaluator with its layer.

    :raises BuildFailedError: if it is larger than Lambda's limit.
    """
    if unzipped_bytes > MOST_UNZIPPED_BYTES:
        raise BuildFailedError(
            "evaluator layer",
            f"{unzipped_bytes:,} bytes unzipped, and Lambda takes {MOST_UNZIPPED_BYTES:,}: "
            "remove a package from locks/evaluator.in, or trim more in artifacts/functions.py",
        )


def _zip_file(name: str, entries: list[Entry]) -> ArtifactFile:
    data = zip_bytes(entries)
    sha256 = hashlib.sha256(data).hexdigest()
    return ArtifactFile(artifact_key(sha256, name), sha256, data=data)


def _build_layer(requirements: Requirements, target: Target, folder: Path) -> None:
    installed = folder / "python"
    install_wheels(requirements, target, installed)
    entries = list(layer_entries(installed))
    data = zip_bytes(entries, level=4)
    (folder / "layer.zip").write_bytes(data)
    facts = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "unzipped_bytes": sum(len(entry.data) for entry in entries),
    }
    (folder / "facts.json").write_text(json.dumps(facts))
    shutil.rmtree(installed)


def layer_entries(installed: Path) -> Iterator[Entry]:
    """Read an installed folder as the entries of a layer: below `python/`, and trimmed."""
    for path in sorted(installed.rglob("*")):
        name = path.relative_to(installed).as_posix()
        if path.is_file() and not is_trimmed(name):
            yield Entry(
                f"python/{name}", path.read_bytes(), executable=bool(re.search(r"\.so(\.|$)", name))
            )


def is_trimmed(name: str) -> bool:
    """Tell whether a file of the layer is left out.

    >>> is_trimmed("numpy/_core/include/x.h"), is_trimmed("numpy/_core/multiarray.py")
    (True, False)
    """
    parts = name.split("/")
    return (
        any(name.startswith(folder + "/") for folder in TRIMMED_FOLDERS)
        or bool(TRIMMED_NAMES & set(parts[:-1]))
        or name.endswith(TRIMMED_SUFFIXES)
        or parts[-1] in TRIMMED_FILES
    )
