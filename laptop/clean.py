"""Stop all processes and remove all state."""

import shutil
import subprocess
import sys

from laptop.places import ROOT, state_folder
from laptop.stack.servers import remove_data
from laptop.stack.supervisor import stop_leftovers


def clean() -> None:
    """Take the local AWS down and remove the state folder. The environments stay."""
    if state_folder().exists():
        stop_leftovers(state_folder() / "stack/pids")
        remove_data(state_folder() / "stack")
        subprocess.run(
            [sys.executable, "-m", "local_aws", "down"],
            cwd=ROOT,
            check=False,
            stdout=subprocess.DEVNULL,
        )
        shutil.rmtree(state_folder(), ignore_errors=True)
    for cache in (
        ".pytest_cache",
        ".mypy_cache",
        ".ruff_cache",
        ".import_linter_cache",
        ".hypothesis",
    ):
        shutil.rmtree(ROOT / cache, ignore_errors=True)
