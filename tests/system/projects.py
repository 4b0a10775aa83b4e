"""Copies of this project's DAG files with a test's own experiments."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT

#: The experiment whose scheduled time has just passed.
MISSED = "missed"


def read_shipped(name: str) -> dict[str, Any]:
    """Read a shipped experiment."""
    document: dict[str, Any] = yaml.safe_load((ROOT / f"experiments/{name}.yaml").read_text())
    return document


def copy_project(root: Path, experiments: dict[str, dict[str, Any]]) -> Path:
    """Write the DAG files and these experiments.

    :return: the folder of the DAG files
    """
    shutil.copytree(ROOT / "dags", root / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "experiments").mkdir()
    for name, document in experiments.items():
        (root / f"experiments/{name}.yaml").write_text(yaml.safe_dump(document))
    return root / "dags"


def copy_unscheduled(root: Path) -> Path:
    """Write the DAG files and the shipped experiments without their schedules.

    A test could otherwise run at their time. :data:`MISSED` is a nightly experiment whose time has
    just passed.

    :return: the folder of the DAG files
    """
    shipped = {path.stem: read_shipped(path.stem) for path in (ROOT / "experiments").glob("*.yaml")}
    due = datetime.now(UTC) - timedelta(minutes=20)
    missed = shipped["cartpole_ppo"] | {"schedule": f"{due.minute} {due.hour} * * *"}
    return copy_project(
        root,
        {name: document | {"schedule": None} for name, document in shipped.items()}
        | {MISSED: missed},
    )
