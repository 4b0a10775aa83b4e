"""Which version of the project is at work: told by git, or by the image that it was built into."""

import os
import subprocess
from pathlib import Path

#: Set in an image, which has no git: the Dockerfile's build argument of the same name.
COMMIT_VARIABLE = "NIGHTSHIFT_COMMIT"


def find_commit(folder: Path) -> str | None:
    """The commit of the working tree that a folder lies in, with `+dirty` if it was changed.

    Outside of git it is what the image was built from; None if nobody said.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return os.environ.get(COMMIT_VARIABLE) or None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}+dirty" if changed else commit


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
