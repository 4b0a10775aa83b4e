"""What happens to a night when its experiment's file is changed, renamed or deleted meanwhile."""

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from laptop import airflow, demo, local_account, ui
from laptop.places import state_folder
from tests.system.api import Api
from tests.system.killing import IMPATIENT
from tests.system.projects import copy_project, read_shipped
from tests.system.test_ui import living_machines, wait_for_machines

pytestmark = [
    pytest.mark.system,
    pytest.mark.local_aws,
    pytest.mark.airflow,
    pytest.mark.timeout(1200),
]

REAPER = "reap_orphaned_instances"
#: The dag processor reads a changed file and notices a missing DAG after a few seconds.
QUICK = {
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "3",
    "AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD": "20",
    "AIRFLOW__DAG_PROCESSOR__PARSING_CLEANUP_INTERVAL": "3",
}


class PatientApi(Api):
    """The REST API on a busy machine: a read that takes longer than two minutes is repeated."""

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        for _ in range(4 if method == "GET" else 0):
            with contextlib.suppress(TimeoutError):
                return super()._call(method, path, body)
        return super()._call(method, path, body)


@pytest.fixture(scope="module")
def experiments(night_state: Path) -> Path:
    """The folder of two experiments without schedules: one to change, and one to delete."""
    short = read_shipped(demo.EXPERIMENT) | {
        "schedule": None,
        "trials": 1,
        "hyperparameters": {"n_envs": 8, "n_steps": 32, "batch_size": 256, "n_epochs": 1},
    }
    copy_project(night_state / "project", {"changed": short, "deleted": short})
    return night_state / "project/experiments"


@pytest.fixture(scope="module")
def api(night_state: Path, experiments: Path) -> Iterator[Api]:
    """Airflow's real processes on a bootstrapped local AWS, with an eager dag processor."""
    local_account.call("up")
    demo.bootstrap(lambda line: None)
    bundle = {
        "name": "dags-folder",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(experiments.parent / "dags")},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))
        for name, value in (IMPATIENT | QUICK).items():
            patch.setenv(name, value)
        with ui.running() as (url, user, password, _process):
            yield PatientApi(url, user, password)


def begin(api: Api, dag_id: str, conf: dict[str, Any]) -> str:
    """Trigger a DAG that need not be one of the shipped ones. :return: the run's id."""
    api.insist("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})
    body = {"logical_date": None, "conf": conf}
    return str(api.insist("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)["dag_run_id"])


def details(api: Api, dag_id: str) -> dict[str, Any]:
    """Read a DAG, which need not be there yet."""
    found = api.call("GET", f"/api/v2/dags?limit=100&exclude_stale=false&dag_id_pattern={dag_id}")
    return next((dag for dag in found["dags"] if dag["dag_id"] == dag_id), {})


def wait_for_description(api: Api, dag_id: str, beginning: str) -> None:
    """Wait until Airflow has read the file again."""
    assert airflow.wait_for(
        lambda: str(details(api, dag_id).get("description")).startswith(beginning), 120
    ), details(api, dag_id)


def task_states(api: Api, dag_id: str, run_id: str) -> dict[str, str]:
    """Return the states of a run's tasks."""
    found = api.call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit=100")
    return {one["task_id"]: one["state"] for one in found["task_instances"]}


def test_a_typo_in_mid_night_refuses_only_new_runs(api: Api, experiments: Path) -> None:
    """The run in flight keeps its tasks and its machine, and ends as if nothing had happened."""
    dag_id, file = "retrain_changed", experiments / "changed.yaml"
    good = file.read_text()
    wait_for_description(api, dag_id, "ppo on CartPole-v1")
    run_id = begin(api, dag_id, {"total_timesteps": 400_000})
    assert api.wait_until_deferred(dag_id, run_id) == "deferred"
    machines = living_machines()
    assert len(machines) == 1

    file.write_text(good.replace("trials:", "trails:"))
    wait_for_description(api, dag_id, "Refuses new runs: experiments/changed.yaml: trails")
    time.sleep(5)  # the scheduler looks at the run several times with the new version of the DAG
    assert living_machines() in (machines, set())  # set(): the training has just ended
    assert "removed" not in task_states(api, dag_id, run_id).values()
    second = begin(api, dag_id, {})
    assert api.wait_for_run(dag_id, run_id, 600) in ("success", "failed")
    states = task_states(api, dag_id, run_id)
    assert {states[task] for task in ("launch", "await", "select", "judge", "report")} == {
        "success"
    }, states
    assert (states["terminate"], living_machines()) == ("success", set())
    assert api.wait_for_run(dag_id, second, 300) == "failed"
    assert "trails: unknown key" in api.log(dag_id, second, "freeze_spec")
    assert task_states(api, dag_id, second)["launch"] in ("upstream_failed", "skipped")

    file.write_text(good)
    wait_for_description(api, dag_id, "ppo on CartPole-v1")
    assert "Training" in json.dumps(api.call("GET", f"/api/v2/dags/{dag_id}/details")["params"])


def test_a_deleted_file_ends_in_a_failed_run_without_a_machine(api: Api, experiments: Path) -> None:
    """Airflow forgets the run. The reaper's DAG fails it, ends its machine, and says why."""
    dag_id = "retrain_deleted"
    wait_for_description(api, dag_id, "ppo on CartPole-v1")
    run_id = begin(api, dag_id, {"total_timesteps": 10**9, "budget_usd": 100})
    assert api.wait_until_deferred(dag_id, run_id) == "deferred"
    assert len(wait_for_machines(1)) == 1

    (experiments / "deleted.yaml").rename(experiments / "renamed.yaml")
    assert airflow.wait_for(lambda: details(api, dag_id).get("is_stale", False), 180)
    early = begin(api, REAPER, {})
    assert api.wait_for_run(REAPER, early, 300) == "success"
    run = api.call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")
    assert (run["state"], len(living_machines())) == ("running", 1)  # the file may come back

    with sqlite3.connect(state_folder() / "airflow/airflow.db", timeout=60) as database:
        database.execute(
            "UPDATE dag SET last_parsed_time = datetime(last_parsed_time, '-1 hour') "
            "WHERE dag_id = ?",
            (dag_id,),
        )
    late = begin(api, REAPER, {})
    assert api.wait_for_run(REAPER, late, 300) == "success"
    assert api.call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"] == "failed"
    assert wait_for_machines(0) == set()
    assert api.xcom(REAPER, late, "close_abandoned_runs") == {"closed": [run_id]}
    assert "was renamed or deleted" in api.log(REAPER, late, "close_abandoned_runs")
    assert yaml.safe_load((experiments / "renamed.yaml").read_text())
