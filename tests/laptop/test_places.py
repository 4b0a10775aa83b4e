"""All state lies under one folder."""

from pathlib import Path

import pytest

from laptop import airflow
from laptop.places import ROOT, state_folder


def test_the_state_folder_is_in_the_checkout_by_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """State is in the folder that `make clean` removes, unless a variable names another."""
    monkeypatch.delenv("NIGHTSHIFT_STATE")
    assert state_folder() == ROOT / ".nightshift"
    monkeypatch.setenv("NIGHTSHIFT_STATE", str(tmp_path))
    assert state_folder() == tmp_path


def test_airflow_uses_the_state_folder_and_loads_this_checkout() -> None:
    """Airflow's files are in the state folder, not in the home directory."""
    settings = airflow.settings()
    for key in ("AIRFLOW_HOME", "AIRFLOW__LOGGING__BASE_LOG_FOLDER"):
        assert Path(settings[key]).is_relative_to(state_folder())
    assert str(state_folder()) in settings["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    assert settings["AIRFLOW__CORE__DAGS_FOLDER"] == str(ROOT / "dags")
