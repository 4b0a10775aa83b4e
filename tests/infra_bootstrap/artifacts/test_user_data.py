"""A machine that cannot start reports the reason and terminates itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from infra_bootstrap.stacks.concerns import TEMPLATES
from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.experiment.spec import Artifact, Spec, WheelSet, freeze_spec
from rl_lifecycle.machines.launch_requests import trial_tags
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.layout import artifact_key, heartbeat_key, log_prefix, spec_key
from rl_lifecycle.storage.s3_store import S3Store
from rl_lifecycle.trials.heartbeats import Heartbeat, TrainerCause, TrainerState
from tests.infra_bootstrap.accounts import PYTHON, Deployment
from tests.infra_bootstrap.stacks.test_least_privilege import fleet, of_gang

EXPERIMENT = {
    "env_id": "CartPole-v1",
    "algo": "ppo",
    "total_timesteps": 1000,
    "trials": 1,
    "evaluation": {"return_range": [0, 500], "crash_below": 50},
}


def test_the_script_is_valid_shell() -> None:
    """The script is valid Bash with two Python programs, and runs on a small Debian."""
    script = (TEMPLATES / "user_data.sh").read_text()
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    inside = [part.split("\nPY\n", 1)[0] for part in script.split("<<'PY'\n")[1:]]
    assert len(inside) == 2
    for program in inside:
        compile(program, "inside.py", "exec")
    assert "curl" not in script


def test_the_script_needs_no_newer_shell_than_macos_has() -> None:
    """The script uses nothing newer than Bash 3.2, which macOS has and the local AWS uses there."""
    script = (TEMPLATES / "user_data.sh").read_text()
    shell = "".join(part.partition("\nPY\n")[2] or part for part in script.split("<<'PY'\n"))
    newer = re.compile(
        r"\$\{[^}]*(\^|,,|@[A-Za-z]\})|\b(mapfile|readarray|coproc|declare -[An]|local -n|wait "
        r"-n)\b|&>>|\|&"
    )
    assert not newer.search(shell)


TAGS = ("environment", "experiment", "run", "trial", "attempt", "spec", "deadline")


@pytest.mark.parametrize(
    "value",
    [
        "dev",
        "two words",
        "$(touch owned)",
        "`touch owned`",
        "'; touch owned; '",
        '"; touch owned; "',
        "a\ntouch owned",
        "$HOME \\ !! *",
        "ünïcode",
        "-n",
        "",
    ],
)
def test_a_tags_value_is_never_run_as_a_command(tmp_path: Path, value: str) -> None:
    """A tag's value is never run as a command, whatever the metadata service answers."""
    script = (TEMPLATES / "user_data.sh").read_text()
    step = script[script.index("cat > identity.py") : script.index("export NIGHTSHIFT_BUCKET")]
    show = 'printf "%s\\0" "$instance" ' + " ".join(
        f'"$NIGHTSHIFT_{name.upper()}"' for name in TAGS
    )
    with answering(lambda path: value if "/tags/" in path else "i-1") as imds:
        printed = run_step(tmp_path, f'python="$1" imds="$2"\n{step}{show}', imds)
    assert printed == ["i-1", *[value] * len(TAGS), ""]
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("tag", "seat"),
    [(None, "0"), ("", "0"), ("0", "0"), ("2", "2"), ("$(touch owned)", "$(touch owned)")],
)
def test_a_machine_of_a_gang_reads_its_address_and_its_seat(
    tmp_path: Path, tag: str | None, seat: str
) -> None:
    """Without a tag of its own, a machine sits on the learner's seat."""
    script = (TEMPLATES / "user_data.sh").read_text()
    step = script[script.index("cat > identity.py") : script.index("export NIGHTSHIFT_BUCKET")]
    show = 'printf "%s\\0" "$instance" "$address" "$seat" "$NIGHTSHIFT_SEAT"'
    answers = {"local-ipv4": "10.64.8.5", "instance-id": "i-1", "nightshift:seat": tag}
    with answering(lambda path: answers.get(path.rpartition("/")[2], "x")) as imds:
        printed = run_step(tmp_path, f'gang=yes python="$1" imds="$2"\n{step}{show}', imds)
    assert printed == ["i-1", "10.64.8.5", seat, seat, ""]
    assert not (tmp_path / "owned").exists()


def test_a_single_machine_asks_for_neither_seat_nor_address(tmp_path: Path) -> None:
    """A machine of the first launch template starts as before, and reads nothing more."""
    script = (TEMPLATES / "user_data.sh").read_text()
    step = script[script.index("cat > identity.py") : script.index("export NIGHTSHIFT_BUCKET")]
    asked = list[str]()

    def answer(path: str) -> str:
        asked.append(path)
        return "x"

    with answering(answer) as imds:
        printed = run_step(
            tmp_path,
            f'python="$1" imds="$2"\n{step}printf "%s\\0" "$seat" "${{address:-none}}"',
            imds,
        )
    assert printed == ["0", "none", ""]
    assert not [path for path in asked if "local-ipv4" in path or "seat" in path]


@pytest.mark.parametrize(
    ("variables", "command"),
    [
        ("seat=0", "train --watch-interruption"),
        ("seat=0 gang=yes address=10.64.8.5", "train --watch-interruption --address 10.64.8.5"),
        (
            "seat=3 gang=yes address=10.64.8.5",
            "collect --watch-interruption --seat 3 --address 10.64.8.5",
        ),
    ],
)
def test_the_command_follows_from_gang_and_seat(
    tmp_path: Path, variables: str, command: str
) -> None:
    """A single machine trains without an address, because its trainer may be older."""
    script = (TEMPLATES / "user_data.sh").read_text()
    step = script[script.index("export PYTHONPATH") : script.index("trainer=$!")]
    tags = "NIGHTSHIFT_EXPERIMENT=e NIGHTSHIFT_RUN=r NIGHTSHIFT_TRIAL=seed-0 NIGHTSHIFT_ATTEMPT=4"
    shown = tmp_path / "python"
    shown.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    shown.chmod(0o700)
    words = run_step(
        tmp_path, f"{variables} {tags} work=/w bucket=b python=./python\n{step}wait\n", "", "-eu"
    )
    common = ["--spec", "s3://b/specs/e/r/spec.json", "--store", "s3://b"]
    common += ["--trial", "seed-0", "--attempt", "4"]
    assert words[:3] == ["-m", "rl_trainer", command.split()[0]]
    assert words[3:-1] == [*common, *command.split()[1:]]


def run_step(folder: Path, step: str, imds: str, options: str = "-u") -> list[str]:
    """Run a step of the script, which prints words that end with zero bytes.

    :param imds: the address of a metadata service.
    """
    done = subprocess.run(
        ["bash", f"{options}c", step, "bash", sys.executable, imds],
        cwd=folder,
        capture_output=True,
        check=True,
        env={"PATH": os.environ["PATH"], "HOME": "/nowhere", "LC_ALL": "C.UTF-8"},
    )
    return done.stdout.decode().split("\0")


@contextmanager
def answering(answer: Callable[[str], str | None]) -> Iterator[str]:
    """Serve an instance metadata service whose answers depend on the path alone.

    :param answer: None for a path that does not exist.
    :return: its address
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answer(self.path)
            data = (found or "").encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_PUT = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the tests' output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def boot(
    dev: Deployment, run: str, wheels: WheelSet | None, *, upload_set: bool = True, seat: int = 0
) -> tuple[Spec, dict[str, Any]]:
    """Freeze a spec, launch its machine, and wait for the machine's end.

    :param seat: above 0, the machine is one of a gang.
    :return: the spec and the ended machine
    """
    launcher = dev.as_role("launcher")
    data = wheels.to_json() if wheels else b""
    trainer = (
        Artifact(key=artifact_key(sha256_hex(data), "wheels.json"), sha256=sha256_hex(data))
        if wheels
        else None
    )
    if trainer and upload_set:
        launcher.s3.put_object(Bucket=dev.bucket, Key=trainer.key, Body=data, IfNoneMatch="*")
    spec = freeze_spec(
        read_experiment(EXPERIMENT, "boots"),
        run_id=run,
        created_at=datetime.now(UTC),
        trainer=trainer,
    )
    launcher.s3.put_object(
        Bucket=dev.bucket, Key=spec_key("boots", run), Body=spec.to_json(), IfNoneMatch="*"
    )
    tags = trial_tags(
        "dev", spec.trial_id("seed-0"), 1, spec.sha256, datetime.now(UTC) + timedelta(minutes=5)
    )
    if seat:
        tags["nightshift:seat"] = str(seat)
    request = (of_gang(dev, fleet(dev)) if seat else fleet(dev)) | {
        "DryRun": False,
        "TagSpecifications": [
            {
                "ResourceType": "instance",
                "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
            }
        ],
    }
    made = launcher.ec2.create_fleet(**request)["Instances"][0]["InstanceIds"][0]
    return spec, await_end(dev, made)


def await_end(dev: Deployment, instance_id: str) -> dict[str, Any]:
    """Wait until a machine has ended itself."""
    for _ in range(300):
        found = dev.as_role("launcher").ec2.describe_instances(InstanceIds=[instance_id])[
            "Reservations"
        ][0]["Instances"][0]
        if found["State"]["Name"] in ("shutting-down", "terminated"):
            return dict(found)
        time.sleep(0.2)
    dev.as_role("launcher").ec2.terminate_instances(InstanceIds=[instance_id])
    pytest.fail("the machine did not end itself within a minute")


def read(dev: Deployment, key: str) -> bytes:
    """Read an object as Airflow's role, and wait until the machine has written it."""
    return bytes(
        dev.as_role("airflow-worker").s3.get_object(Bucket=dev.bucket, Key=key)["Body"].read()
    )


def test_a_missing_wheel_is_a_failed_heartbeat_a_log_and_an_end(dev: Deployment) -> None:
    """If the trainer cannot start, the machine writes heartbeat and log and terminates itself."""
    spec, machine = boot(
        dev, "missing", WheelSet(python=PYTHON, wheels={"ghost-1-py3-none-any.whl": "0" * 64})
    )
    assert machine["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    trial = spec.trial_id("seed-0")
    beat = Heartbeat.from_json(read(dev, heartbeat_key(trial)))
    assert (beat.state, beat.cause, beat.attempt, beat.total_timesteps) == (
        TrainerState.FAILED,
        TrainerCause.CODE,
        1,
        1000,
    )
    assert "ghost-1-py3-none-any.whl: NoSuchKey" in beat.message
    assert "nightshift: instance i-" in read(dev, log_prefix(trial, 1) + "boot.log").decode()


def test_wheels_for_another_python_are_refused_by_name(dev: Deployment) -> None:
    """An image with another Python is refused by name, before an import fails."""
    spec, _ = boot(dev, "otherpython", WheelSet(python="3.99", wheels={}))
    beat = json.loads(read(dev, heartbeat_key(spec.trial_id("seed-0"))))
    assert (beat["state"], beat["cause"]) == ("failed", "spec")
    assert f"the wheels are for Python 3.99, this image has {PYTHON}" in beat["message"]


def test_a_seat_that_cannot_start_reports_under_its_own_keys(dev: Deployment) -> None:
    """Heartbeat and log of a collector are those of its seat. The learner's stay as they are."""
    spec, _ = boot(dev, "seated", WheelSet(python="3.98", wheels={}), seat=2)
    trial = spec.trial_id("seed-0")
    beat = Heartbeat.from_json(read(dev, heartbeat_key(trial.at_seat(2))))
    assert (beat.state, beat.attempt) == (TrainerState.FAILED, 1)
    log = read(dev, log_prefix(trial.at_seat(2), 1) + "boot.log").decode()
    assert re.search(r"/seed-0, attempt 1, seat 2, 127\.[0-9.]+\n", log)
    store = S3Store(dev.as_role("airflow-worker").s3, dev.bucket)
    assert store.find(heartbeat_key(trial)) is None
    assert store.find(log_prefix(trial, 1) + "boot.log") is None
