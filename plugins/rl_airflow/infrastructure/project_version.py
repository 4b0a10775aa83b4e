"""The version of the project that is running: of the DAG bundle, from git, or of the image."""

import os
import subprocess
from pathlib import Path
from typing import Any

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


def find_bundle_version(task_instance: object) -> str | None:
    """Find the version of the DAG bundle that a task runs from. For a git bundle it is a commit.

    The bundle holds the DAG files and the experiments. It may be newer than the image, which holds
    the plugins.
    Source: https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/dag-bundles.html

    :return: the version that the run is pinned to. If runs are not pinned, the bundle's current
        version. None if the bundle has no versions, as a local folder.
    """
    bundle: Any = getattr(task_instance, "bundle_instance", None)
    if bundle is None:
        return None
    version = bundle.version
    if version is None and bundle.supports_versioning:
        version = bundle.get_current_version()
    # Airflow's own bundles give a `BundleVersion`; those of older releases give its text.
    return getattr(version, "version", version) or None


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
