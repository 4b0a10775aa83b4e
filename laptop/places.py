"""The folders of a checkout: its root, and the one folder that holds all state."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def state_folder() -> Path:
    """Return the folder that `make clean` removes: NIGHTSHIFT_STATE, else `.nightshift`."""
    return Path(os.environ.get("NIGHTSHIFT_STATE") or ROOT / ".nightshift").resolve()


def log_folder() -> Path:
    """Make and return the folder for long outputs, so that the screen shows only progress."""
    folder = state_folder() / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def tool(name: str) -> str:
    """Return the path of a program in this Python environment, e.g. `airflow`."""
    return str(Path(sys.executable).parent / name)
