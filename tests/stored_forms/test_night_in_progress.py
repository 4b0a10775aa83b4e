"""Today's code finishes a night that an earlier commit began.

`night/make.py` made the stored files with the commit that `facts.json` names: an Airflow database
with a trial's task deferred on its trigger, the bucket, and a directory store of the trainer.
`night/README.md` says what this test does not show.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from laptop import airflow, local_account, ui
from laptop.clean import clean
from rl_lifecycle.records.record import canonical_json, sha256_hex
from tests.conftest import ROOT
from tests.stored_forms.night import restore
from tests.stored_forms.night.make import NAME, NIGHT, TRIAL, prepare_project
from tests.stored_forms.night.restore import Clock, StoredNight
from tests.stored_forms.night.roles import Roles
from tests.system.accounts import Account
from tests.system.api import Api

pytestmark = [
    pytest.mark.system,
    pytest.mark.local_aws,
    pytest.mark.airflow,
    pytest.mark.timeout(1800),
]

DAG_ID = f"retrain_{NAME}"
WAITING = """
    SELECT task_id, try_number, classpath FROM task_instance
    JOIN trigger ON trigger.id = trigger_id WHERE run_id = ? AND state = 'deferred'
"""
#: The role that restores each class of objects (`rl_lifecycle.storage.layout.WRITERS`), in the
#: order of restoring. An arriving policy calls the evaluator, which must find its earlier
#: evaluations.
WRITERS = {
    "specs/": "launcher",
    "attempts/": "launcher",
    "ledger/": "launcher",
    "evaluations/": "evaluator",
    "registry/": "promoter",
    "heartbeats/": "trainer",
    "checkpoints/": "trainer",
    "logs/": "trainer",
    "metrics/": "trainer",
    "policies/": "trainer",
}


def run_module(*command: str, environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Run one of our commands.

    :return: its output
    """
    done = subprocess.run(
        [sys.executable, "-m", *command, "--json"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answered: dict[str, Any] = json.loads(done.stdout)
    return answered


def deploy() -> dict[str, Any]:
    """Deploy the stacks as an administrator.

    :return: their outputs
    """
    runtime = f"python{sys.version_info.major}.{sys.version_info.minor}"
    administrator = local_account.environment("administrator")
    environment = ("--environment", "dev")
    run_module(
        *("infra_bootstrap", "deploy", *environment, "--lambda-runtime", runtime),
        environment=administrator,
    )
    return run_module("infra_bootstrap", "outputs", *environment, environment=administrator)


def mix_wheel_set(
    night: StoredNight, roles: Roles, bucket: str, current: str
) -> tuple[str, dict[str, bytes]]:
    """Build a wheel set from our stored wheels and the other wheels of today's set.

    :param current: the key of today's set

    :return: the digest of the new set, and objects by key
    """
    s3 = roles.client("launcher", "s3")
    wheel_set = json.loads(s3.get_object(Bucket=bucket, Key=current)["Body"].read())
    others = {
        name: sha256 for name, sha256 in wheel_set["wheels"].items() if not name.startswith("rl_")
    }
    own = {name: sha256_hex(data) for name, data in night.wheels.items()}
    data = canonical_json({**wheel_set, "wheels": others | own})
    digest = sha256_hex(data)
    # Unchanged wheels are already stored under the same digest.
    objects = {
        f"artifacts/{own[name]}/{name}": wheel
        for name, wheel in night.wheels.items()
        if wheel_set["wheels"].get(name) != own[name]
    }
    if f"artifacts/{digest}/wheels.json" != current:
        objects[f"artifacts/{digest}/wheels.json"] = data
    return digest, objects


def fail_host_again(roles: Roles, attempt: dict[str, Any]) -> str:
    """Ask for the machine of an attempt as it was asked for, and fail its host. :return: its id."""
    local_account.call("fault", "add", "kill", "instance=*", "count=1")
    answer = roles.client("launcher", "ec2").create_fleet(
        **attempt["request"], ClientToken=attempt["token"]
    )
    instance_id: str = answer["Instances"][0]["InstanceIds"][0]
    assert airflow.wait_for(lambda: instance_id not in living_machines(), 60, 0.2)
    return instance_id


def living_machines() -> set[str]:
    """List the machines that may train."""
    return {
        one["instance_id"]
        for one in local_account.call("status")["instances"]
        if one["state"] in ("pending", "running")
    }


def put_all(roles: Roles, bucket: str, objects: dict[str, bytes]) -> None:
    """Write objects as the roles that may, and replace what the failed machine wrote."""
    for prefix, role in {"artifacts/": "launcher", **WRITERS}.items():
        mine = {key: data for key, data in objects.items() if key.startswith(prefix)}
        if mine:
            s3 = roles.client(role, "s3")
            once = {} if prefix in ("heartbeats/", "logs/") else {"IfNoneMatch": "*"}
            with roles.writing_all_evaluations():
                for key, data in sorted(mine.items()):
                    s3.put_object(Bucket=bucket, Key=key, Body=data, **once)


@dataclass(frozen=True)
class Resumed:
    """A stored night that continues.

    :param waiting: the task that was deferred: its id, its try and its trigger's class path
    """

    night: StoredNight
    api: Api
    account: Account
    waiting: list[tuple[str, int, str]]

    def read(self, key: str) -> dict[str, Any]:
        """Read a JSON object of the bucket."""
        document: dict[str, Any] = json.loads(self.account.store.find(key).data)
        return document

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Trigger a DAG.

        :return: the run's id
        """
        self.api.insist("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})
        body = {"logical_date": None, "conf": conf}
        run = self.api.insist("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)
        return str(run["dag_run_id"])

    def tasks(self, dag_id: str, run: str) -> dict[str, dict[str, Any]]:
        """Return the task instances of a run by task id."""
        place = f"/api/v2/dags/{dag_id}/dagRuns/{run}/taskInstances?limit=100"
        return {one["task_id"]: one for one in self.api.call("GET", place)["task_instances"]}

    def failures(self, dag_id: str, run: str) -> dict[str, list[str]]:
        """Return the errors in the last logs of each failed task of a run."""
        place = f"/api/v2/dags/{dag_id}/dagRuns/{run}/taskInstances"
        found = {}
        for name, task in self.tasks(dag_id, run).items():
            if task["state"] == "failed":
                tried = f"{place}/{name}/logs/{task['try_number']}?map_index={task['map_index']}"
                lines = self.api.call("GET", tried)["content"]
                found[name] = [str(line) for line in lines if line.get("level") == "error"]
        return found


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The module's state folder, which is stopped and removed afterwards."""
    folder = tmp_path_factory.mktemp("stored-night")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIGHTSHIFT_STATE", str(folder))
        yield folder
        clean()


@pytest.fixture(autouse=True)
def own_state(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the module's state folder instead of one for each test."""
    monkeypatch.setenv("NIGHTSHIFT_STATE", str(state))
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)


@pytest.fixture(scope="module")
def night() -> StoredNight:
    """The content of the archive."""
    return restore.read_archive()


@pytest.fixture(scope="module")
def resumed(state: Path, night: StoredNight) -> Iterator[Resumed]:
    """The stored night on a fresh local AWS and a new Airflow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        local_account.call("up")
        outputs = deploy()
        clock, names = restore_bucket(night, outputs)
        project = state / "project"
        for name, value in prepare_project(project, night.facts["experiment"]).items():
            patch.setenv(name, value)
        home = state / "airflow"
        words = dict(zip(restore.WORDS, (str(project), str(ROOT), str(home)), strict=True))
        text = clock.move(restore.replace_names(night.database, names | words))
        with contextlib.closing(restore.restore_database(text, home / "airflow.db")) as database:
            waiting = database.execute(WAITING, (NIGHT,)).fetchall()
        with ui.running() as (url, user, password, process):
            yield Resumed(night, Api(url, user, password), Account(), waiting)
            # The state is discarded, so a clean shutdown, which takes half a minute, is not needed.
            os.killpg(process.pid, signal.SIGKILL)


def restore_bucket(night: StoredNight, outputs: dict[str, Any]) -> tuple[Clock, dict[str, str]]:
    """Write the stored objects and create the failed machine.

    :return: the replaced names
    """
    roles, bucket = Roles(), outputs["bucket"]
    clock = Clock(night.facts["stopped_at"], restore.now())
    names = restore.names_of(night, outputs)
    digest, artifacts = mix_wheel_set(night, roles, bucket, outputs["trainer_wheels"]["key"])
    names[night.facts["outputs"]["trainer_wheels"]["sha256"]] = digest
    key = f"attempts/{NAME}/{NIGHT}/{TRIAL}/0001.json"
    objects, _ = restore.rename(night.objects, names, clock)
    attempt = json.loads(objects[key])
    names[attempt["outcome"]["instance_id"]] = fail_host_again(roles, attempt)
    objects, names = restore.rename(night.objects, names, clock)
    put_all(roles, bucket, objects | artifacts)
    return clock, names


@pytest.fixture(scope="module")
def finished(resumed: Resumed) -> Resumed:
    """The same night after it ended, successfully or not."""
    resumed.api.wait_for_run(DAG_ID, NIGHT, timeout_s=900)
    return resumed


def test_the_night_succeeds_without_a_retry_of_the_waiting_task(finished: Resumed) -> None:
    """A retry would hide an unreadable trigger, argument or event."""
    tasks = finished.tasks(DAG_ID, NIGHT)
    run = finished.api.call("GET", f"/api/v2/dags/{DAG_ID}/dagRuns/{NIGHT}")
    assert run["state"] == "success", "\n".join(map(str, finished.failures(DAG_ID, NIGHT).items()))
    assert tasks["await"]["try_number"] == 1
    assert finished.waiting == [("await", 1, "rl_airflow.triggers.trials.Ec2TrialTrigger")]


def test_another_machine_continues_from_the_stored_checkpoint(finished: Resumed) -> None:
    """The failed machine is noticed, and no committed step is trained again."""
    committed = finished.night.facts["committed_step"]
    first, second = finished.account.attempts(NAME, NIGHT)
    assert first.outcome.end == "machine_lost"
    assert first.outcome.committed_step == committed > 0
    assert second.outcome.end == "finished"
    steps = {
        int(item.key.split("/")[4])
        for item in finished.account.store.list(f"checkpoints/{NAME}/{NIGHT}/{TRIAL}/")
        if "/0002/" in item.key
    }
    segment = finished.night.facts["experiment"]["checkpoint_every"]
    total = finished.night.facts["experiment"]["total_timesteps"]
    assert steps == set(range(committed + segment, total + 1, segment))
    assert living_machines() == set()


def test_the_candidate_is_judged_against_the_stored_champion(finished: Resumed) -> None:
    """The gate compares the candidate with the stored champion and promotes it."""
    before = finished.night.facts["champion"]
    stored = finished.read(f"registry/{NAME}/versions/{before:06d}/manifest.json")
    report = finished.read(f"registry/{NAME}/versions/{before + 1:06d}/report.json")
    entry = finished.read(f"registry/{NAME}/history/{before + 1:06d}.json")
    assert report["champion_digest"] == stored["digest"]
    assert report["verdict"]["decision"] == "PROMOTE"
    assert (entry["move"], entry["from_version"], entry["to_version"]) == (
        "promoted",
        before,
        before + 1,
    )
    assert finished.api.xcom(DAG_ID, NIGHT, "promote")["outcome"] == "PROMOTED"


@pytest.fixture(scope="module")
def cared_for(finished: Resumed) -> tuple[Resumed, str, str]:
    """A replay of the new version and a rollback to the oldest, both ended."""
    version = finished.night.facts["champion"] + 1
    replay = finished.trigger(
        "replay_champion", {"experiment": NAME, "version": version, "segments": 1}
    )
    back = finished.trigger(
        "rollback_policy", {"experiment": NAME, "version": 1, "reason": "it was better"}
    )
    for dag_id, run in (("rollback_policy", back), ("replay_champion", replay)):
        assert finished.api.wait_for_run(dag_id, run, timeout_s=900) == "success"
    return finished, replay, back


def test_a_segment_of_the_stored_commit_is_replayed_with_the_same_digest(
    cared_for: tuple[Resumed, str, str],
) -> None:
    """The replay of the version's first segment gives the stored digest.

    On another kind of processor, or with other libraries, the replay must report that nothing can
    be compared.
    """
    resumed, replay, _ = cared_for
    compared = resumed.tasks("replay_champion", replay)["compare"]
    segment = resumed.night.facts["experiment"]["checkpoint_every"]
    stored = f"checkpoints/{NAME}/{NIGHT}/{TRIAL}/{segment:012d}/0001/manifest.json"
    again = next(
        item.key
        for item in resumed.account.store.list("checkpoints/replay/")
        if item.key.endswith(f"/{segment:012d}/0001/manifest.json")
    )
    if resumed.read(again)["numeric_class"] == resumed.read(stored)["numeric_class"]:
        assert compared["state"] == "success"
        answer = resumed.api.xcom("replay_champion", replay, "compare")
        assert (answer["outcome"], answer["step"]) == ("SAME", segment)
    else:
        assert compared["state"] in ("success", "skipped")


def test_a_stored_version_can_be_restored(cared_for: tuple[Resumed, str, str]) -> None:
    """The oldest stored version is complete for today's code, and the history continues."""
    resumed, _, _ = cared_for
    moves = resumed.night.facts["champion"] + 1
    assert resumed.read(f"registry/{NAME}/champion.json")["version"] == 1
    entry = resumed.read(f"registry/{NAME}/history/{moves + 1:06d}.json")
    assert (entry["move"], entry["from_version"], entry["to_version"]) == ("rolled_back", moves, 1)


def test_a_directory_store_is_trained_to_its_end(night: StoredNight, tmp_path: Path) -> None:
    """The trainer continues from the stored checkpoint with its stored replay buffer.

    In the numeric class of the stored commit the digest is the stored one. In another class two
    trainings from the checkpoint must agree.
    """
    stored, ends = night.facts["store"], []
    spec = tmp_path / f"{NAME}.yaml"
    spec.write_text(yaml.safe_dump(stored["experiment"]))
    for name in ("first", "second"):
        store = restore.write_store(night, tmp_path / name)
        command = ("rl_trainer", "train", "--quiet", "--spec", str(spec), "--store", str(store))
        ends.append(run_module(*command))
        manifest = max(store.glob("checkpoints/*/*/*/*/*/manifest.json"))
        facts = json.loads(manifest.read_text())["numeric_class"]
        if facts == stored["numeric_class"]:
            assert ends[0]["digest"] == stored["digest"]
            break
    assert {one["digest"] for one in ends} == {ends[0]["digest"]}
    assert ends[0]["resumed_from"] == stored["resumed_from"]
    assert ends[0]["state"] == "finished"
