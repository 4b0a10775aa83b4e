"""Airflow's own processes on the local AWS: what a person does in the UI, through the API that the UI uses."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from laptop import demo, twin, ui

pytestmark = [pytest.mark.system, pytest.mark.local_aws, pytest.mark.airflow]
DAGS = {"bootstrap_infrastructure", "retrain_cartpole_ppo", "retrain_lunarlander_ppo", "evaluate_policy", "rollback_policy",
        "reap_orphaned_instances", "destroy_infrastructure"}


class Api:
    """The REST API, as a logged-in user."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self.token = ""
        self.token = self.call("POST", "/auth/token", {"username": user, "password": password})["access_token"]

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(self.url + path, None if body is None else json.dumps(body).encode(), method=method,
                                         headers={"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            answered: dict[str, Any] = json.load(answer)
        return answered

    def wait_for_dags(self, timeout_s: float = 90) -> set[str]:
        end = time.monotonic() + timeout_s
        while True:
            found = {dag["dag_id"] for dag in self.call("GET", "/api/v2/dags?limit=100")["dags"]}
            if found >= DAGS or time.monotonic() > end:
                return found
            time.sleep(1)

    def wait_for_run(self, dag_id: str, run_id: str, timeout_s: float) -> str:
        end = time.monotonic() + timeout_s
        while True:
            state = self.call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"]
            if state in ("success", "failed") or time.monotonic() > end:
                return str(state)
            time.sleep(2)


@pytest.fixture(scope="module")
def api(night_state: Path) -> Iterator[Api]:
    """Airflow up on a bootstrapped local AWS, and somebody logged in."""
    twin.call("up")
    demo.bootstrap(lambda line: None)
    with ui.running() as (url, user, password, _process):
        yield Api(url, user, password)


def test_every_dag_is_there_and_none_is_broken(api: Api) -> None:
    """The two example experiments are DAGs of their own."""
    assert api.wait_for_dags() >= DAGS
    assert api.call("GET", "/api/v2/importErrors")["import_errors"] == []


def test_a_login_is_asked_for(api: Api) -> None:
    """Without a token nothing is told."""
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{api.url}/api/v2/dags", timeout=30)


def test_the_form_has_sections_units_and_limits(api: Api) -> None:
    """What a person may set, and how far."""
    api.wait_for_dags()
    params = api.call("GET", "/api/v2/dags/retrain_cartpole_ppo/details")["params"]
    budget = params["budget_usd"]["schema"]
    assert (budget["section"], budget["exclusiveMinimum"]) == ("Machines", 0)
    assert "US dollars" in budget["title"]
    assert {field["schema"].get("section") for field in params.values()} >= {"Training", "Machines", "Gate"}


def test_a_value_beyond_its_limit_is_refused_before_anything_runs(api: Api) -> None:
    """A negative budget is a mistake, not a night."""
    api.wait_for_dags()
    with pytest.raises(urllib.error.HTTPError, match="400"):
        api.call("POST", "/api/v2/dags/retrain_cartpole_ppo/dagRuns", {"logical_date": None, "conf": {"budget_usd": -1}})


def test_a_retraining_that_a_person_triggers_is_seen_through(api: Api) -> None:
    """Scheduler, triggerer and local machines: the run ends well, deferred tasks and all."""
    api.wait_for_dags()
    api.call("PATCH", "/api/v2/dags/retrain_cartpole_ppo", {"is_paused": False})
    run = api.call("POST", "/api/v2/dags/retrain_cartpole_ppo/dagRuns",
                   {"logical_date": None, "conf": {"trials": 1, "total_timesteps": 60_000}})
    assert api.wait_for_run("retrain_cartpole_ppo", run["dag_run_id"], timeout_s=420) == "success"
    night = demo.read_night("cartpole_ppo")
    assert night["summary"]["verdict"]["decision"] in {"PROMOTE", "KEEP", "INCONCLUSIVE"}
    assert night["instances_left"] == []
