"""Run this machine's pip and uv, to download locked wheels and to install them into a folder."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from infra_bootstrap.artifacts.locks import ROOT, Requirements, Target
from infra_bootstrap.errors import BuildFailedError


def download_wheels(requirements: Requirements, target: Target, folder: Path) -> None:
    """Download the wheels of a lock into a folder. pip checks each one against the lock's digests.

    pip does it because uv cannot download. The user's own configuration sets indexes, proxies and
    `PIP_FIND_LINKS`.

    :raises BuildFailedError: if pip fails. The message has pip's last line.
    """
    listed = folder / "requirements.txt"
    listed.write_text(requirements.text)
    platforms = [word for tag in target.platform.pip for word in ("--platform", tag)]
    try:
        _run(
            "trainer wheels",
            [
                *find_pip(),
                "download",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "--require-hashes",
                "--only-binary",
                ":all:",
                *platforms,
                "--python-version",
                target.python,
                "--implementation",
                "cp",
                "--dest",
                str(folder),
                "--requirement",
                str(listed),
            ],
        )
    finally:
        listed.unlink()


def install_wheels(requirements: Requirements, target: Target, folder: Path) -> None:
    """Install the wheels of a lock into a folder, for a target that may differ from this machine.

    :raises BuildFailedError: if uv fails. The message has uv's last line.
    """
    listed = folder.with_name(folder.name + "-requirements.txt")
    listed.write_text(requirements.text)
    try:
        _run(
            "evaluator layer",
            [
                *find_uv(),
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--require-hashes",
                "--only-binary",
                ":all:",
                "--python-version",
                target.python,
                "--python-platform",
                target.platform.uv,
                "--link-mode",
                "copy",
                "--target",
                str(folder),
                "--requirement",
                str(listed),
            ],
        )
    finally:
        listed.unlink()


def find_pip() -> list[str]:
    """Find a pip that runs, and return its command.

    The candidates are the pip of `make setup`, that of this Python, and that of the Python which
    this virtual environment was made from.

    :raises BuildFailedError: if there is none.
    """
    below = getattr(sys, "_base_executable", sys.executable)
    for python in (str(ROOT / ".venv-uv/bin/python"), sys.executable, below):
        command = [python, "-m", "pip"]
        if _works([*command, "--version"]):
            return command
    raise BuildFailedError("trainer wheels", "no pip was found to download them: run `make setup`")


def find_uv() -> list[str]:
    """Find a uv that runs, and return its command.

    The candidates are the uv of `make setup`, the one on PATH, and that of this Python.

    :raises BuildFailedError: if there is none.
    """
    own = ROOT / ".venv-uv/bin/uv"
    if own.exists():
        return [str(own)]
    if on_path := shutil.which("uv"):
        return [on_path]
    if _works([sys.executable, "-m", "uv", "--version"]):
        return [sys.executable, "-m", "uv"]
    raise BuildFailedError(
        "evaluator layer", "no uv was found to install its wheels: run `make setup`"
    )


def _works(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    except OSError:
        return False


def _run(artifact: str, command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [
            line.strip()
            for line in done.stderr.splitlines()
            if line.strip() and "WARNING" not in line
        ]
        raise BuildFailedError(
            artifact,
            (lines[-1] if lines else f"{command[0]} ended with exit status {done.returncode}")[
                :500
            ],
        )
