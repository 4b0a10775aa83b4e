"""All our DAGs, parsed once, and an Airflow home for this test process."""

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.plugins.airflow_home import ROOT, SETTINGS

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag

DAGS = ROOT / "dags"


@pytest.fixture(scope="session")
def bag() -> "DagBag":
    """All DAGs as Airflow parses them, without the database or the network."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(dag_folder=str(DAGS), collect_dags=True)


def run_python(code: str) -> str:
    """Run Python code in a fresh process with the tests' Airflow settings.

    :return: what it printed
    """
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | SETTINGS,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
