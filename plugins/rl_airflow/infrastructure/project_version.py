"""The version of the project that is running, from git or from the image's build."""

import os
import subprocess
from pathlib import Path

#: Set in an image, which has no git: the Dockerfile's build argument of the same name.
COMMIT_VARIABLE = "NIGHTSHIFT_COMMIT"


def find_commit(folder: Path) -> str | None:
    """Find the commit of a folder's working tree, with `+dirty` if files were changed.

    Without git it is the commit that the image was built from; None if the image does not name it.
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
