"""Make `night.tar.xz`, which holds what a checkout stores in the middle of a night.

Run it in the root of the checkout whose forms you want to keep, with that checkout's environments
(`make setup`) and with the path of this file::

    NIGHTSHIFT_STATE=$(mktemp -d) .venv/bin/python PATH/make.py PATH/night.tar.xz

It starts a local AWS and an Airflow with an empty state folder. Two short nights put two weak
versions into the registry. The third night is stopped while its trial trains: Airflow is killed
while the waiting task is deferred, and the host of the machine fails. Then everything is written
to one archive:

    facts.json      commit, moment, bucket, ids of the account, versions, digest of the store
    airflow.sql     the metadata database as SQL, without host names and without paths
    bucket/…        all objects except the artifacts, by key
    wheels/…        the wheels of rl_lifecycle and rl_trainer that the machine had
    store/…         a directory store, killed in the middle of a training

Two runs differ in times, nonces and instance ids. The seeds are equal, and so are the trained
parameters on the same kind of processor. A run takes about two minutes.
"""

import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import yaml

ROOT = Path.cwd()
NAME, NIGHT, TRIAL = "stored_night", "night-3", "seed-0"
#: Short segments and one environment, so that a few seconds of training make many checkpoints.
EXPERIMENT: dict[str, Any] = {
    "env_id": "CartPole-v1",
    "algo": "ppo",
    "hyperparameters": {"n_envs": 1, "n_steps": 1024, "batch_size": 64, "n_epochs": 10},
    "total_timesteps": 102_400,
    "trials": 1,
    "checkpoint_every": 5_120,
    "schedule": None,
    "compute": {
        "instance_types": ["c7i.large"],
        "market": "spot",
        "max_hours": 2,
        "budget_usd": 5,
        # The test that continues the night may run on any processor.
        "on_other_hardware": "continue",
    },
    "evaluation": {
        "return_range": [0, 500],
        "crash_below": 5,
        "first_champion_above": 5,
        "max_pairs": 400,
        "selection_episodes": 20,
    },
    "gate": {"alpha": 0.05, "crash_margin": 0.05},
}
#: The steps of the nights before; fewer steps make a weaker policy.
EARLIER = {"night-1": 5_120, "night-2": 15_360}
#: The night is stopped after so many committed steps.
STOP_AT = 25_600
#: An algorithm with a replay buffer, so that its chunks are archived too.
STORE_EXPERIMENT: dict[str, Any] = {
    **EXPERIMENT,
    "algo": "dqn",
    "hyperparameters": {
        "buffer_size": 8_000,
        "learning_starts": 1_000,
        "batch_size": 32,
        "train_freq": 4,
        "policy_kwargs": "dict(net_arch=[32, 32])",
    },
    "total_timesteps": 20_480,
}
STORE_STOP_AT = 10_240
#: The archived DAG files, which a night, a replay and a rollback need.
DAG_FILES = ("retrain.py", "replay_champion.py", "rollback_policy.py")
#: Seconds that a night may take, also on a busy machine.
NIGHT_S = 1_500
#: Placeholders in `airflow.sql` for paths of this machine.
PROJECT, CHECKOUT, HOME = "/stored/project", "/stored/checkout", "/stored/airflow"


def main(archive: Path) -> None:
    """Make the archive."""
    from laptop import local_account
    from laptop.clean import clean
    from laptop.places import state_folder

    folder = Path(tempfile.mkdtemp(prefix="stored-night-"))
    os.environ.pop("AWS_ENDPOINT_URL", None)
    try:
        facts: dict[str, Any] = {"commit": _commit(), "experiment": EXPERIMENT}
        facts["store"] = _make_store(folder)
        local_account.call("up")
        facts["outputs"] = _deploy()
        _train_nights(state_folder() / "project")
        _fail_hosts(local_account.call)
        facts["stopped_at"] = datetime.now(UTC).isoformat()
        facts |= _read_bucket(facts["outputs"], local_account.environment("administrator"), folder)
        home = state_folder() / "airflow"
        paths = {str(state_folder() / "project"): PROJECT, str(home): HOME, str(ROOT): CHECKOUT}
        (folder / "airflow.sql").write_text(dump_database(home / "airflow.db", paths))
        (folder / "facts.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
        _pack(folder, archive)
    finally:
        clean()
        shutil.rmtree(folder)


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _make_store(folder: Path) -> dict[str, Any]:
    """Train in a directory and kill the trainer halfway.

    :return: the digest of a training that was not killed
    """
    spec, store = folder / f"{NAME}.yaml", folder / "store"
    spec.write_text(yaml.safe_dump(STORE_EXPERIMENT))
    command = [
        *(sys.executable, "-m", "rl_trainer", "train", "--quiet", "--json"),
        *("--spec", str(spec), "--store"),
    ]
    whole = _run([*command, str(folder / "whole")])
    with subprocess.Popen([*command, str(store)], stdout=subprocess.DEVNULL) as process:
        _wait(lambda: _committed(store) >= STORE_STOP_AT)
        process.kill()
    shutil.copytree(store, folder / "copy")
    resumed = _run([*command, str(folder / "copy")])
    assert resumed["digest"] == whole["digest"], "the resumed training differs from the whole one"
    manifest = max((folder / "copy").glob("checkpoints/*/*/*/*/*/manifest.json"))
    facts = json.loads(manifest.read_text())
    for name in ("whole", "copy"):
        shutil.rmtree(folder / name)
    return {
        "experiment": STORE_EXPERIMENT,
        "digest": whole["digest"],
        "numeric_class": facts["numeric_class"],
        "resumed_from": int(resumed["resumed_from"]),
    }


def _run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _committed(store: Path) -> int:
    """Return the committed step of a store's only trial."""
    heads = list(store.glob("checkpoints/*/*/*/head.json"))
    return int(json.loads(heads[0].read_text())["step"]) if heads else 0


def _wait(condition: Callable[[], bool], timeout_s: float = 300, pause_s: float = 0.05) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("what was waited for did not come")
        time.sleep(pause_s)


def _deploy() -> dict[str, Any]:
    from laptop import local_account

    runtime = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for command in (["deploy", "--lambda-runtime", runtime], ["outputs"]):
        done = subprocess.run(
            [sys.executable, "-m", "infra_bootstrap", *command, "--environment", "dev", "--json"],
            env=local_account.environment("administrator"),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
    outputs: dict[str, Any] = json.loads(done.stdout)
    return outputs


def _train_nights(project: Path) -> None:
    """Train two nights to their ends and a third halfway, then kill Airflow."""
    from laptop import ui
    from tests.system.api import Api

    os.environ.update(prepare_project(project, EXPERIMENT))
    dag_id = f"retrain_{NAME}"
    with ui.running() as (url, user, password, process):
        api = Api(url, user, password)
        _wait(lambda: dag_id in _dag_ids(api), NIGHT_S, pause_s=1)
        api.insist("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})
        for run, steps in EARLIER.items():
            _trigger(api, dag_id, run, {"total_timesteps": steps})
            state = api.wait_for_run(dag_id, run, timeout_s=NIGHT_S)
            moved = api.xcom(dag_id, run, "promote")
            assert (state, moved["outcome"]) == ("success", "PROMOTED"), (state, moved)
        _trigger(api, dag_id, NIGHT, {})
        _wait(lambda: _head_step() >= STOP_AT and _is_deferred(api, dag_id), NIGHT_S, 0.2)
        os.killpg(process.pid, signal.SIGKILL)


def prepare_project(project: Path, experiment: dict[str, Any]) -> dict[str, str]:
    """Write a project with one experiment.

    :return: the environment variables of its Airflow
    """
    from tests.system.projects import copy_project

    project.mkdir()
    dags = copy_project(project, {NAME: experiment})
    for path in dags.glob("*.py"):
        if path.name not in DAG_FILES:
            path.unlink()
    bundle = {
        "name": "dags-folder",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(dags)},
    }
    return {
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
        # Without a key Airflow stores triggers' arguments in clear text, so no secret is needed.
        "AIRFLOW__CORE__FERNET_KEY": "",
        # A busy machine needs longer timeouts than Airflow's, and the DAG files do not change.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
    }


def _dag_ids(api: Any) -> set[str]:
    return {dag["dag_id"] for dag in api.call("GET", "/api/v2/dags?limit=100")["dags"]}


def _trigger(api: Any, dag_id: str, run: str, conf: dict[str, Any]) -> None:
    body = {"logical_date": None, "conf": conf, "dag_run_id": run}
    api.insist("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)


def _is_deferred(api: Any, dag_id: str) -> bool:
    place = f"/api/v2/dags/{dag_id}/dagRuns/{NIGHT}/taskInstances?limit=100"
    found = api.call("GET", place)["task_instances"]
    return any(one["task_id"] == "await" and one["state"] == "deferred" for one in found)


def _head_step() -> int:
    from tests.system.accounts import Account

    store = Account().store
    found = store.find(f"checkpoints/{NAME}/{NIGHT}/{TRIAL}/head.json")
    return int(json.loads(found.data)["step"]) if found else 0


def _fail_hosts(call: Callable[..., dict[str, Any]]) -> None:
    """Stop every machine as a failing host does, without a last heartbeat."""
    call("fault", "add", "kill", "instance=*")
    _wait(
        lambda: all(
            one["state"] not in ("pending", "running") for one in call("status")["instances"]
        ),
        pause_s=0.5,
    )


def _read_bucket(
    outputs: dict[str, Any], environment: dict[str, str], folder: Path
) -> dict[str, Any]:
    """Copy the objects, and of the artifacts only our own wheels.

    A machine's boot log is left out, because it names paths of this machine.

    :return: the copied files by key
    """
    s3 = _client(environment)
    bucket = outputs["bucket"]

    def read(key: str) -> bytes:
        data: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        return data

    keys = [
        item["Key"]
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for item in page.get("Contents", ())
    ]
    for key in keys:
        if not key.startswith("artifacts/") and not key.endswith("/boot.log"):
            path = folder / "bucket" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(read(key))
    wheel_set = json.loads(read(outputs["trainer_wheels"]["key"]))
    own = {name: sha for name, sha in wheel_set["wheels"].items() if name.startswith("rl_")}
    (folder / "wheels").mkdir()
    for name, sha256 in own.items():
        (folder / "wheels" / name).write_bytes(read(f"artifacts/{sha256}/{name}"))
    pointer = json.loads(read(f"registry/{NAME}/champion.json"))
    head = json.loads(read(f"checkpoints/{NAME}/{NIGHT}/{TRIAL}/head.json"))
    return {"champion": pointer["version"], "committed_step": head["step"]}


def _client(environment: dict[str, str]) -> Any:
    """Make a client from the credentials that an environment variable names."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    try:
        client = boto3.Session().client("s3")
        client.list_buckets()
        return client
    finally:
        os.environ.clear()
        os.environ.update(before)


def dump_database(path: Path, paths: dict[str, str]) -> str:
    """Write an Airflow database as SQL, with placeholders for paths and host names."""
    with sqlite3.connect(path) as database:
        tables = [
            name
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        for table in tables:
            columns = {row[1] for row in database.execute(f'PRAGMA table_info("{table}")')}
            for column, value in (("hostname", "localhost"), ("unixname", "airflow")):
                if column in columns:
                    database.execute(f'UPDATE "{table}" SET "{column}" = ?', (value,))
        for table in ("log", "session"):
            if table in tables:
                database.execute(f'DELETE FROM "{table}"')
        text = "\n".join(database.iterdump()) + "\n"
    for here, word in sorted(paths.items(), key=lambda pair: -len(pair[0])):
        text = text.replace(here, word)
    return text


def _pack(folder: Path, archive: Path) -> None:
    """Pack a folder reproducibly."""
    with tarfile.open(archive, "w:xz", preset=9) as packed:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name not in (f"{NAME}.yaml", ".lock"):
                data = path.read_bytes()
                entry = tarfile.TarInfo(str(path.relative_to(folder)))
                entry.size = len(data)
                packed.addfile(entry, io.BytesIO(data))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
