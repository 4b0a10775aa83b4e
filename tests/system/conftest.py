"""One local AWS and one Airflow for each module, because nights build on each other."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from laptop.clean import clean
from tests.plugins.airflow_home import HOME  # before any module imports Airflow

assert HOME.is_dir()


@pytest.fixture(scope="module")
def night_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state folder of the module's nights, which is stopped and removed afterwards."""
    folder = tmp_path_factory.mktemp("nights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIGHTSHIFT_STATE", str(folder))
        yield folder
        clean()


@pytest.fixture(autouse=True)
def own_state(night_state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the module's state folder instead of one for each test."""
    monkeypatch.setenv("NIGHTSHIFT_STATE", str(night_state))
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
