"""The numeric class: facts that, together with the seeds, decide the bits of a training.

The facts are the processor, its instruction sets, the threads and the library versions. Two
machines of one numeric class train to identical parameters. Machines of different classes add
numbers in a different order.
"""

import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path

from pydantic import JsonValue

from rl_lifecycle.records.record import canonical_json

#: BLAS and OpenMP read these variables when they are loaded, so they must be set before numpy is
#: imported.
THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
#: Key of a checkpoint's class: several classes have trained, so its digest cannot be compared.
MIXED = "mixed"
#: Key of a checkpoint's class: the name of the class of the machines that only collected. Only a
#: learner with a GPU writes it, because all other learners are of that class themselves.
COLLECTORS = "collectors"
PACKAGES = ("gymnasium", "numpy", "sb3-contrib", "stable-baselines3", "torch")


def pin_threads() -> None:
    """Set one thread for every numeric library of this process. Call this before loading them.

    It also keeps torch from printing the stack of each lost connection. It raises them, too.
    """
    for variable in THREAD_VARIABLES:
        os.environ[variable] = "1"
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")


def library_versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Return the versions of the installed packages, by distribution name."""
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def numeric_class(device: str, path: str) -> dict[str, JsonValue]:
    """Return the facts of this process.

    :param path: `numpy` or `torch`: the implementation that trains.
    """
    import numpy as np
    import torch

    torch.set_num_threads(1)
    features = np._core._multiarray_umath.__cpu_features__  # type: ignore[attr-defined]
    facts: dict[str, JsonValue] = {
        "architecture": platform.machine(),
        "cpu": cpu_model(),
        "device": device_name(device),
        "path": path,
        "numpy_simd": "+".join(sorted(name for name, present in features.items() if present)),
        "torch_simd": torch.backends.cpu.get_cpu_capability(),
        "threads": 1,
        "openblas_coretype": os.environ.get("OPENBLAS_CORETYPE", ""),
        "python": platform.python_version(),
    }
    facts["versions"] = dict(library_versions())
    return facts


def class_name(facts: dict[str, JsonValue]) -> str:
    """Return a short name of a numeric class, for heartbeats."""
    return hashlib.sha256(canonical_json(facts)).hexdigest()[:12]


def device_name(device: str) -> str:
    """Return `cpu`, or the product name of the GPU."""
    if not device.startswith("cuda"):
        return "cpu"
    import torch

    return str(torch.cuda.get_device_name(device))


def cpu_model() -> str:
    """Return the processor's vendor, family and model on Linux, or the platform's name for it."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor() or platform.machine()
    wanted = ("vendor_id", "cpu family", "model", "model name", "CPU implementer", "CPU part")
    found: dict[str, str] = {}
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() in wanted:
            found.setdefault(key.strip(), value.strip())
    return " ".join(found[key] for key in wanted if key in found) or platform.machine()


def differences(before: dict[str, JsonValue], now: dict[str, JsonValue]) -> list[str]:
    """List the facts that differ between two numeric classes, as `fact: before → now`.

    >>> differences({"cpu": "A", "threads": 1}, {"cpu": "B", "threads": 1})
    ['cpu: A → B']
    """
    ignored = {MIXED, COLLECTORS}
    return [
        f"{key}: {before.get(key)} → {now.get(key)}"
        for key in sorted({*before, *now} - ignored)
        if before.get(key) != now.get(key)
    ]
