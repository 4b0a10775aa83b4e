"""The Python runtimes of Lambda that this machine can run, and their interpreters."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import threading
from pathlib import Path

RUNTIMES = ("python3.11", "python3.12", "python3.13", "python3.14")
OFFERED_BY_RUNTIME = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3")
"""The packages that AWS's runtime contains besides Python: the SDK and its dependencies."""


class Runtimes:
    """Finds the interpreters once, in the background, because starting each one takes a moment.

    :param folder: the folder of links to the packages that a runtime offers.
    """

    def __init__(self, folder: Path) -> None:
        self.packages = folder
        self._found: dict[str, str] = {}
        self._search = threading.Thread(target=self._find_all, daemon=True, name="runtimes")
        self._search.start()

    def _find_all(self) -> None:
        """Look for the interpreter of every runtime."""
        link_packages(self.packages)
        for runtime in RUNTIMES:
            if path := find_interpreter(runtime):
                self._found[runtime] = path

    def available(self) -> list[str]:
        """List the runtimes that this machine can run."""
        self._search.join()
        return list(self._found)

    def interpreter(self, runtime: str) -> str | None:
        """Return the interpreter of a runtime, or None."""
        self._search.join()
        return self._found.get(runtime)


def find_interpreter(runtime: str) -> str | None:
    """Return an interpreter of a runtime's version, or None.

    This is the server's own interpreter, or the first one on PATH if it really starts. The shim of
    a version manager may not start.
    """
    if runtime == f"python{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    path = shutil.which(runtime)
    return path if path and _starts(path, runtime) else None


def _starts(path: str, runtime: str) -> bool:
    """Say whether an interpreter starts and has the runtime's version."""
    command = [path, "-I", "-S", "-c", "import sys; print('python%d.%d' % sys.version_info[:2])"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and answer.stdout.strip() == runtime


def link_packages(folder: Path) -> None:
    """Link the packages that a runtime offers into one folder, without the emulator's packages."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in OFFERED_BY_RUNTIME:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            continue
        origin = Path(spec.origin)
        source = origin.parent if origin.name == "__init__.py" else origin
        (folder / source.name).symlink_to(source)
        for metadata in source.parent.glob(f"{name}-*.dist-info"):
            (folder / metadata.name).symlink_to(metadata)
