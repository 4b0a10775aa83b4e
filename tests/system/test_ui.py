"""Airflow's processes on the local AWS, used through the UI's API as a person does."""

import json
import random
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from stable_baselines3 import PPO

from laptop import airflow, demo, local_account, ui
from tests.conftest import ROOT
from tests.kill_rounds import seeds
from tests.system.accounts import Account, MachineWatch, check_books
from tests.system.api import DAGS, ENDLESS, EXPERIMENT, NIGHT, Api
from tests.system.console_visits import (
    answer_beside_its_evidence,
    opened_console,
    see_who_approved,
    watch_a_film,
    watch_a_trial,
)
from tests.system.killing import IMPATIENT, AirflowProcesses, StruckRun, plan_strikes
from tests.system.noise import NOISE
from tests.system.projects import MISSED, copy_unscheduled

pytestmark = [
    pytest.mark.system,
    pytest.mark.local_aws,
    pytest.mark.airflow,
    pytest.mark.timeout(1800),
]


#: The lines of a machine's log that its task prints.
PROGRESS = re.compile(r"steps/s.* to go.* · USD \d")


def living_machines() -> set[str]:
    """List the machines that may train."""
    return {
        one["instance_id"]
        for one in local_account.call("status")["instances"]
        if one["state"] in ("pending", "running")
    }


def wait_for_machines(wanted: int, timeout_s: float = 90) -> set[str]:
    """Wait until so many machines run.

    :return: these machines
    """
    end = time.monotonic() + timeout_s
    while len(found := living_machines()) != wanted and time.monotonic() < end:
        time.sleep(1)
    return found


@pytest.fixture(scope="module")
def api(night_state: Path) -> Iterator[Api]:
    """Airflow up on a bootstrapped local AWS, beside our DAGs a consumer's, and somebody logged
    in.
    """
    local_account.call("up")
    demo.bootstrap(lambda line: None)
    consumers = night_state / "consumers"
    consumers.mkdir()
    shutil.copy(ROOT / "docs/examples/on_new_champion.py", consumers)
    bundles = [
        {
            "name": name,
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(path)},
        }
        for name, path in (
            ("dags-folder", copy_unscheduled(night_state / "project")),
            ("consumers", consumers),
        )
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(bundles))
        for name, value in IMPATIENT.items():
            patch.setenv(name, value)
        with ui.running() as (url, user, password, _process):
            here = Api(url, user, password)
            here.wait_for_dags()
            for dag_id in ("on_new_champion", f"retrain_{MISSED}"):
                here.call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})
            yield here


def run_module(module: str, *arguments: str) -> dict[str, Any]:
    """Run one of our commands as an administrator.

    :return: its output
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments, "--json"],
        cwd=ROOT,
        env=local_account.environment("administrator"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answered: dict[str, Any] = json.loads(done.stdout)
    return answered


def test_every_dag_exists_and_has_no_import_error(api: Api) -> None:
    """Our DAGs exist without an import error, and each example experiment has its own."""
    assert api.wait_for_dags() >= DAGS
    assert api.call("GET", "/api/v2/importErrors")["import_errors"] == []


def test_the_api_needs_a_login(api: Api) -> None:
    """Without a token the API answers nothing."""
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{api.url}/api/v2/dags", timeout=30)


def test_the_form_has_sections_units_and_limits(api: Api) -> None:
    """The form shows the limits of each value."""
    api.wait_for_dags()
    params = api.call("GET", "/api/v2/dags/retrain_cartpole_ppo/details")["params"]
    budget = params["budget_usd"]["schema"]
    assert (budget["section"], budget["exclusiveMinimum"]) == ("Machines", 0)
    assert "US dollars" in budget["title"]
    assert {field["schema"].get("section") for field in params.values()} >= {
        "Training",
        "Machines",
        "Gate",
    }


def test_a_value_beyond_its_limit_is_refused_at_once(api: Api) -> None:
    """A negative budget is refused when the DAG is triggered."""
    api.wait_for_dags()
    with pytest.raises(urllib.error.HTTPError, match="400"):
        api.call(
            "POST",
            "/api/v2/dags/retrain_cartpole_ppo/dagRuns",
            {"logical_date": None, "conf": {"budget_usd": -1}},
        )


@pytest.fixture(scope="module")
def imported(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SB3 model that was exported, uploaded and judged by the DAG.

    :return: its ONNX file
    """
    folder = tmp_path_factory.mktemp("elsewhere")
    model = PPO("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": []}, device="cpu")
    with (
        torch.no_grad()
    ):  # a hand-made controller with a mean return of about 450, always above 100
        model.policy.action_net.weight.copy_(
            torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, -0.1, 1.0, 0.8]])
        )
        model.policy.action_net.bias.zero_()
    model.save(folder / "model.zip")
    policy = folder / "policy.onnx"
    run_module(
        "rl_trainer",
        "export",
        "--model",
        str(folder / "model.zip"),
        "--trust",
        "--out",
        str(policy),
        "--env-id",
        "CartPole-v1",
    )
    result = run_module(
        "infra_bootstrap", "upload-policy", "--environment", "dev", "--policy", str(policy)
    )
    run = api.trigger(
        "import_policy",
        {
            "experiment": EXPERIMENT,
            "bundle": result["bundle"],
            "origin": "a controller made by hand",
        },
        run_id="import-of-the-ui",
    )
    assert api.wait_for_run("import_policy", run, timeout_s=420) == "success"
    return policy


def test_a_model_trained_elsewhere_becomes_the_first_champion(api: Api, imported: Path) -> None:
    """SB3's model.zip passed the bar and is version 1, and the event says that it was imported."""
    done = api.xcom("import_policy", "import-of-the-ui", "import_policy")
    assert (done["outcome"], done["version"]) == ("PROMOTED", 1)
    assert api.wait_for_event("imported")["digest"] == done["digest"]


def test_lambda_and_laptop_play_the_same_episodes(api: Api, imported: Path) -> None:
    """Even with doubled events, each seed has one return, which the laptop also gets."""
    for _ in range(2):
        local_account.call(
            "fault", "add", "duplicate_event", "function=nightshift-dev-evaluator", "count=2"
        )
    run = api.trigger(
        "evaluate_policy", {"experiment": EXPERIMENT, "n_episodes": 150, "first_seed": 900_000_000}
    )
    assert api.wait_for_run("evaluate_policy", run, timeout_s=420) == "success"
    found = api.xcom("evaluate_policy", run, "evaluate")
    here = run_module(
        "rl_evaluator",
        "evaluate",
        "--policy",
        str(imported),
        "--env-id",
        "CartPole-v1",
        "--n-episodes",
        "150",
        "--first-seed",
        "900000000",
    )
    assert (found["version"], found["n_episodes"]) == (1, 150)
    assert found["mean_return"] == sum(here["returns"]) / 150
    assert found["crash_rate"] == sum(value < 100 for value in here["returns"]) / 150


def test_a_retraining_waits_for_approval_and_a_timeout_rejects(api: Api, imported: Path) -> None:
    """Only the approval moves the champion and triggers the consumer's DAG.

    The same run gets a timeout, then a rejection, then the approval of a person in the console.
    """
    api.wait_for_dags()
    run = api.trigger(
        NIGHT,
        {"trials": 1, "approval": True, "approval_hours": 60 / 3600},
        run_id="night-of-the-ui",
    )
    assert api.wait_for_run(NIGHT, run, timeout_s=420) == "success"
    result = api.xcom(NIGHT, run, "judge")
    assert result["decision"] == "PROMOTE", result["reason"]
    assert api.call("GET", f"/api/v2/dags/{NIGHT}/dagRuns/{run}")["note"].startswith(
        "PROMOTE: after"
    )
    assert api.xcom(NIGHT, run, "promote")["reason"].startswith(
        "not approved: no person answered within"
    )
    consumed = api.runs("on_new_champion")
    assert api.answer_again(run, "Reject") == "success"
    assert api.xcom(NIGHT, run, "promote")["outcome"] == "NOT_APPROVED"
    api.ask_again(run)
    with opened_console(api) as visitor:
        answer_beside_its_evidence(visitor, run)
        assert api.wait_for_run(NIGHT, run, timeout_s=420) == "success"
        see_who_approved(visitor)
        watch_a_film(visitor, run)
    done = api.xcom(NIGHT, run, "promote")
    assert (done["outcome"], done["version"]) == ("PROMOTED", 2)
    event = api.wait_for_event("promoted")
    assert (event["version"], event["digest"]) == (2, done["digest"])
    assert airflow.wait_for(lambda: api.runs("on_new_champion") > consumed, 60), (
        "the consumer's DAG was not triggered"
    )
    night = demo.read_night(EXPERIMENT)
    assert night["instances_left"] == []
    assert night["summary"]["champion_version"] == 2


def test_a_replay_has_the_same_digest(api: Api) -> None:
    """Another machine of the same kind trains one segment and then ends."""
    run = api.trigger("replay_champion", {"experiment": EXPERIMENT, "version": 2, "segments": 1})
    assert api.wait_for_run("replay_champion", run, timeout_s=420) == "success"
    answer = api.xcom("replay_champion", run, "compare")
    assert answer["outcome"] == "SAME"
    assert answer["step"] < 100_000


def test_a_person_rolls_back_and_the_history_shows_it(api: Api) -> None:
    """A missing version fails with the list of versions; without a version a person chooses."""
    wrong = api.trigger(
        "rollback_policy", {"experiment": EXPERIMENT, "version": 9, "reason": "a typing error"}
    )
    assert api.wait_for_run("rollback_policy", wrong, timeout_s=420) == "failed"
    run = api.trigger("rollback_policy", {"experiment": EXPERIMENT, "reason": "the new one shakes"})
    offered: list[str] = []

    def choose(options: list[str]) -> str:
        offered[:] = options
        return options[0]

    assert api.answer("rollback_policy", run, "choose", choose) == "success"
    assert [option.partition(":")[0] for option in offered] == ["1", "None of them"]
    assert api.xcom("rollback_policy", run, "roll_back")["version"] == 1
    assert api.wait_for_event("rolled_back")["version"] == 1
    log = api.log("rollback_policy", run, "roll_back")
    for part in (
        "imported: nothing → version 1",
        "promoted: version 1 → version 2",
        "approved by",
        "rolled_back: version 2 → version 1",
        "chosen by",
        "the new one shakes",
    ):
        assert part in log


def test_the_pool_of_vcpus_exists_from_the_start(api: Api) -> None:
    """Without the pool every trial would wait; deferred tasks count in it, too."""
    pool = api.call("GET", "/api/v2/pools/nightshift_vcpus")
    assert (pool["slots"], pool["include_deferred"]) == (256, True)
    task = api.call("GET", "/api/v2/dags/retrain_cartpole_ppo/tasks/await")
    assert (task["pool"], task["pool_slots"]) == ("nightshift_vcpus", 2)


@pytest.fixture(scope="module")
def processes(api: Api) -> Iterator[AirflowProcesses]:
    """The processes of this module's Airflow."""
    found = AirflowProcesses()
    yield found
    found.end()


@pytest.mark.kills
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", seeds(1, share=5))
def test_a_run_survives_the_death_of_each_process(
    api: Api, processes: AirflowProcesses, seed: int
) -> None:
    """One machine works at a time, and none is left.

    Workers, scheduler and triggerer die, the run is triggered twice, and its waiting task is
    cleared. A second run of the same moment is a run of its own, which follows the first.
    """
    account, conf = (
        Account(),
        {"trials": 1, "total_timesteps": 120_000, "max_hours": 1, "budget_usd": 5},
    )
    runs = [f"killed-{seed}-{name}" for name in ("first", "second")]
    with MachineWatch(account) as watch:
        for run, wanted in zip(runs, (conf, ENDLESS), strict=True):
            assert api.trigger(NIGHT, wanted, run_id=run) == run
            with pytest.raises(urllib.error.HTTPError, match="409"):
                api.trigger(NIGHT, wanted, run_id=run)
        struck = StruckRun(api, processes, NIGHT, runs[0], random.Random(seed))
        for task_id, kind in plan_strikes(seed):
            struck.strike(task_id, kind)
        assert api.wait_for_run(NIGHT, runs[0], timeout_s=900) == "success"
        assert {task_id for task_id, _ in struck.hits} >= {"await"}, (
            f"nothing struck the waiting task, missed: {struck.missed}"
        )
        assert len(struck.hits) > len(struck.missed), f"missed: {struck.missed}"
        assert api.wait_until_deferred(NIGHT, runs[1]) == "deferred"
        second = StruckRun(api, processes, NIGHT, runs[1], random.Random(seed))
        assert airflow.wait_for(lambda: bool(PROGRESS.search(second.log("await"))), 180), (
            "no progress is passed on while the task waits"
        )
        links = second.links("await")
        page = f"plugin/nightshift/{NIGHT}"
        run_page = f"{page}/run?run_id={runs[1]}"
        assert links == {
            "EC2 instance": run_page,  # AWS's own console does not show the local AWS
            "Learning curve": run_page,
            "Machine log": f"{page}/log?run_id={runs[1]}&trial=seed-0&seat=0&attempt=1",
            "Checkpoints": None,
        }
        api.insist("PATCH", f"/api/v2/dags/{NIGHT}/dagRuns/{runs[1]}", {"state": "failed"})
        assert api.wait_for_run(NIGHT, runs[1], timeout_s=180) == "failed"
    assert all(watch.seen & {one["InstanceId"] for one in account.machines(run)} for run in runs)
    assert watch.twice == set()
    check_books(account, EXPERIMENT, runs[0])
    assert {one["State"]["Name"] for one in account.machines(runs[1])} == {"terminated"}


@pytest.fixture(scope="module")
def endless(api: Api) -> dict[str, str]:
    """Two runs of two DAGs, which train until a person ends them.

    :return: the runs' ids by DAG
    """
    api.wait_for_dags()
    runs = {dag_id: api.begin_endless(dag_id) for dag_id in (NIGHT, "retrain_lunarlander_ppo")}
    assert [api.wait_until_deferred(dag_id, run_id) for dag_id, run_id in runs.items()] == [
        "deferred",
        "deferred",
    ]
    assert len(wait_for_machines(2)) == 2
    return runs


def test_a_running_trial_is_shown_without_a_reload(api: Api, endless: dict[str, str]) -> None:
    """What a machine reported is on the open page within ten seconds, and one interval."""
    with opened_console(api) as visitor:
        watch_a_trial(visitor, Account(), endless[NIGHT])


def test_marking_a_trial_failed_and_deleting_a_run_end_their_machines(
    api: Api, endless: dict[str, str]
) -> None:
    """The triggerer ends a deferred task's machine within a minute, because no worker runs.

    The verdict says who cancelled the trial, and no notice is sent.
    """
    runs = endless
    failed, deleted = runs
    api.insist(
        "PATCH",
        f"/api/v2/dags/{failed}/dagRuns/{runs[failed]}/taskInstances/await/0",
        {"new_state": "failed"},
    )
    _delete_run(api, deleted, runs[deleted])
    assert wait_for_machines(0) == set()
    assert api.wait_for_run(failed, runs[failed], timeout_s=120) == "failed"
    run = api.call("GET", f"/api/v2/dags/{failed}/dagRuns/{runs[failed]}")
    assert re.match(
        r"seed-0 was cancelled by admin at \d{4}-\d\d-\d\d \d\d:\d\d UTC; ", run["note"]
    )
    assert "a person ended this run, so no notice is sent" in api.log(
        failed, runs[failed], "verdict"
    )


def test_a_refused_launch_costs_one_trial(api: Api) -> None:
    """The budget allows one machine at a time. The other trial is judged, and the cause is named.

    Either of the two trials may come first.
    """
    api.wait_for_dags()
    conf = {"trials": 2, "total_timesteps": 30_000, "max_hours": 1, "budget_usd": 0.2}
    run = api.trigger(NIGHT, conf, run_id="one-launch-refused")
    assert api.wait_for_run(NIGHT, run, timeout_s=420) == "failed"
    place = f"/api/v2/dags/{NIGHT}/dagRuns/{run}"
    states: dict[str, list[str]] = {}
    for one in api.call("GET", f"{place}/taskInstances?limit=100")["task_instances"]:
        states.setdefault(one["task_id"], []).append(one["state"])
    assert sorted(states.pop("launch")) == ["failed", "success"]
    assert sorted(states.pop("await")) == ["success", "upstream_failed"]
    assert states.pop("verdict") == ["failed"]
    assert states.pop("promote") in (["success"], ["skipped"])
    assert {name: state for name, state in states.items() if state != ["success"]} == {}
    note = api.call("GET", place)["note"]
    assert re.match(r"seed-\d: the next machine may cost up to USD .*; decision: [A-Z]+: ", note)
    assert re.search(r"\ncost 0\.\d{4} USD of 0\.2 USD allowed$", note)
    log = "".join(api.log(NIGHT, run, task_id) for task_id in ("freeze_spec", "select", "report"))
    assert "freeze_spec" in log
    assert [noise for noise in NOISE if noise in log] == []


def test_unpausing_a_dag_after_its_time_launches_nothing(api: Api) -> None:
    """A DAG that is unpaused twenty minutes after its time first runs the next night."""
    dag = api.call("GET", f"/api/v2/dags/retrain_{MISSED}")
    due = datetime.fromisoformat(dag["next_dagrun_run_after"])
    assert not dag["is_paused"]
    assert api.runs(f"retrain_{MISSED}") == 0
    assert due > datetime.now(UTC)


def _delete_run(api: Api, dag_id: str, run_id: str) -> None:
    """Delete a run as the UI does: mark it as failed, wait for its teardown, then delete it."""
    with pytest.raises(urllib.error.HTTPError, match="409"):
        api.call("DELETE", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")
    api.insist("PATCH", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}", {"state": "failed"})
    assert api.wait_for_run(dag_id, run_id, timeout_s=180) == "failed"
    api.insist("DELETE", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")
