"""Where things are: the checkout, and the one folder that holds all state."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def state_folder() -> Path:
    """The folder that `make clean` removes: `.nightshift`, or what NIGHTSHIFT_STATE names."""
    return Path(os.environ.get("NIGHTSHIFT_STATE") or ROOT / ".nightshift").resolve()


def log_folder() -> Path:
    """Where long outputs go, so that the screen shows progress alone."""
    folder = state_folder() / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def tool(name: str) -> str:
    """A program of the environment that we run in, e.g. `airflow`."""
    return str(Path(sys.executable).parent / name)
