"""A service with a wrong setting does not start, and one line says what to do."""

import base64
import os
import shlex
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from airflow_image import start_checks
from airflow_image.cleaning import keep_days
from airflow_image.errors import StartRefusedError
from airflow_image.services import (
    API_SECRET,
    BROKER,
    DATABASE,
    FERNET,
    JWT_SECRET,
    RESULTS,
    SERVICES,
)
from tests.conftest import ROOT
from tests.plugins.airflow_home import HOME  # before any module imports Airflow


def fernet_key(key: bytes) -> str:
    """Write a key as Airflow wants it."""
    return base64.urlsafe_b64encode(key).decode()


GOOD = {
    "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
    DATABASE: "postgresql+psycopg2://airflow:Q3xv0B8mE1_tYw6k@postgres/airflow",
    RESULTS: "db+postgresql://celery:Zr7n-K2pV5.hJ9sd@postgres/celery",
    BROKER: "redis://:Lw4c~T6yH8_gN1ub@redis:6379/0",
    FERNET: fernet_key(bytes(range(32))),
    API_SECRET: "Bx2mD7qF9aR4jU0e",
    JWT_SECRET: "Wp5zC3vS8kL1oI6i",
    "AIRFLOW_ADMIN_PASSWORD": "Mt9fG0rX2yE7nA4d",
}


@pytest.mark.parametrize("service", SERVICES)
def test_good_secrets_pass(service: str) -> None:
    """Each service accepts the secrets that .env.example's commands make."""
    start_checks.check_secrets(service, GOOD)
    start_checks.check_executor(GOOD)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (DATABASE, "", "is missing: set POSTGRES_PASSWORD in .env"),
        (
            DATABASE,
            "postgresql+psycopg2://airflow:pass/word@with#signs@postgres/airflow",
            "POSTGRES_PASSWORD becomes part of an address",
        ),
        (DATABASE, "postgresql+psycopg2://airflow:short@postgres/airflow", "can be guessed"),
        (BROKER, "redis://:changeme-changeme-changeme@redis:6379/0", "REDIS_PASSWORD can be"),
        (DATABASE, "postgresql://airflow:0101010101010101@postgres/airflow", "can be guessed"),
        (JWT_SECRET, "x" * 48, "AIRFLOW_JWT_SECRET can be guessed: use at least 16 random"),
        (JWT_SECRET, "your-secret-goes-here", "AIRFLOW_JWT_SECRET can be guessed"),
        (JWT_SECRET, "$(openssl rand -hex 32)", "AIRFLOW_JWT_SECRET has .* run the command in"),
        (JWT_SECRET, "${JWT_SECRET_OF_PRODUCTION}", "AIRFLOW_JWT_SECRET has .* run the command in"),
        (JWT_SECRET, "<a-random-secret-goes-here>", "AIRFLOW_JWT_SECRET has .* run the command in"),
        (JWT_SECRET, "`openssl-rand-hex-32`", "AIRFLOW_JWT_SECRET has .* run the command in"),
        (JWT_SECRET, "Some secret goes here", "AIRFLOW_JWT_SECRET has .* run the command in"),
        (BROKER, "redis://:$(openssl rand -hex 32)@redis:6379/0", "REDIS_PASSWORD has .* run the"),
        (BROKER, "redis://redis:6379/0", f"{BROKER} has no password .*: set REDIS_PASSWORD in"),
        (BROKER, "redis://:@redis:6379/0", f"{BROKER} has no password .*: set REDIS_PASSWORD in"),
        (BROKER, "redis://user@redis:6379/0", f"{BROKER} has no password .*: set REDIS_PASSWORD"),
        (FERNET, "not-a-key", "AIRFLOW_FERNET_KEY is no Fernet key"),
        (FERNET, "$(python -c 'import os')", "AIRFLOW_FERNET_KEY has .* run the command in"),
        (FERNET, fernet_key(bytes(32)), "AIRFLOW_FERNET_KEY can be guessed"),
        (FERNET, fernet_key(b"k" * 32), "AIRFLOW_FERNET_KEY can be guessed"),
        (RESULTS, GOOD[DATABASE], "POSTGRES_CELERY_PASSWORD and POSTGRES_PASSWORD are the same"),
    ],
)
def test_a_missing_or_unsafe_secret_is_refused(name: str, value: str, message: str) -> None:
    """The line names the variable of .env, and never shows the value."""
    with pytest.raises(StartRefusedError, match=message) as refused:
        start_checks.check_secrets("scheduler", GOOD | {name: value})
    assert "\n" not in str(refused.value)
    assert not value or value not in str(refused.value)


def test_a_worker_needs_no_secret_of_the_database() -> None:
    """It starts without the database's password and without the Fernet key."""
    start_checks.check_secrets(
        "celery worker",
        {name: text for name, text in GOOD.items() if name not in (DATABASE, FERNET)},
    )


@pytest.mark.parametrize("executor", ["", "LocalExecutor", "KubernetesExecutor"])
def test_another_executor_is_refused(executor: str) -> None:
    """The services are Celery's."""
    with pytest.raises(StartRefusedError, match="set it to CeleryExecutor"):
        start_checks.check_executor({"AIRFLOW__CORE__EXECUTOR": executor})


@pytest.mark.parametrize("version", ["2.11.2", "3.0.6", "3.1.8"])
def test_an_airflow_below_3_2_is_refused(version: str) -> None:
    """On such a version no DAG file can be parsed."""
    with pytest.raises(StartRefusedError, match=r"need 3\.2 or newer"):
        start_checks.check_airflow(version)


@pytest.mark.parametrize("version", ["3.2.0", "3.3.2", "3.10.0rc1", "4.0.0"])
def test_an_airflow_from_3_2_passes(version: str) -> None:
    """Also with two digits, and a release candidate."""
    start_checks.check_airflow(version)


def test_a_database_that_is_away_is_one_line() -> None:
    """The line has the reason of the driver, and no traceback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"postgresql+psycopg2://airflow:x@127.0.0.1:{probe.getsockname()[1]}/airflow"
    with pytest.raises(StartRefusedError, match=r"does not answer: .*refused") as refused:
        start_checks.ask_database(address, for_revision=True)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("found", "state"), [("", "has no tables yet"), ("abc", "another Airflow")]
)
def test_a_database_of_another_version_is_refused(found: str, state: str) -> None:
    """The line says to stop all services before the migration."""
    with pytest.raises(StartRefusedError, match=f"{state}.*stop all services.*airflow-init"):
        start_checks.check_revision(found, "def")


def test_the_newest_revision_is_the_one_that_airflow_migrates_to() -> None:
    """The files say the same as Airflow's own table."""
    assert HOME.is_dir()
    from airflow.utils.db import _REVISION_HEADS_MAP

    assert start_checks.newest_revision() == list(_REVISION_HEADS_MAP.values())[-1]


def test_a_worker_without_an_experiments_wheel_says_so(tmp_path: Path) -> None:
    """Each missing or broken wheel is one warning; a file that is no YAML is left to its DAG."""
    folder = tmp_path / "experiments"
    (folder / "wheels").mkdir(parents=True)
    (tmp_path / "dags").mkdir()
    with zipfile.ZipFile(folder / "wheels/good-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("good.py", "")
    (folder / "wheels/broken-1.0-py3-none-any.whl").write_text("no zip")
    (folder / "good.yaml").write_text("requirements: [wheels/good-1.0-py3-none-any.whl]")
    (folder / "broken.yaml").write_text("requirements: [wheels/broken-1.0-py3-none-any.whl]")
    (folder / "gone.yml").write_text("requirements: [wheels/gone-1.0-py3-none-any.whl]")
    (folder / "wrong.yaml").write_text("requirements: [")
    found = list(
        start_checks.missing_wheels({"AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags")})
    )
    assert [line.split()[0] for line in found] == ["broken.yaml", "gone.yml"]
    assert f", and {folder}/wheels/broken-1.0-py3-none-any.whl is no wheel" in found[0]
    assert "the experiment's night will fail" in found[0]


@pytest.mark.parametrize("days", ["", "soon", "7"])
def test_the_cleaner_keeps_the_rows_of_a_run_that_waits(days: str) -> None:
    """An approval may wait for a week, so a month is the least."""
    with pytest.raises(StartRefusedError, match="AIRFLOW_KEEP_DAYS"):
        keep_days({"AIRFLOW_KEEP_DAYS": days})


def run_entrypoint(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the image's entrypoint."""
    return subprocess.run(
        [sys.executable, "-m", "airflow_image", *arguments],
        cwd=ROOT,
        env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_command_that_was_not_run_is_exit_code_2_and_one_line() -> None:
    """The container ends before it asks the database, and its log says what to do."""
    done = run_entrypoint("scheduler", **GOOD | {FERNET: "$(make-a-key)"})
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: AIRFLOW_FERNET_KEY has $(…), <…>, a blank or a backtick, like a command that was "
        "not run: run the command in .env.example, and set what it prints"
    ]


def test_the_commands_of_the_example_make_good_secrets() -> None:
    """No random secret looks like an example, so that the rules are not too strict."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    commands = [line[2:] for line in lines if line.startswith("# python -c")]
    for command in commands * 3:
        secret = subprocess.run(
            shlex.split(command.replace("python", sys.executable, 1)),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        name = FERNET if "base64" in command else JWT_SECRET
        start_checks.check_secrets("scheduler", GOOD | {name: secret})
    assert len(commands) == 2


@pytest.mark.parametrize(
    "command", [("scheduler",), ("bash", "-c", "exec airflow scheduler"), ("celery", "worker")]
)
def test_a_refused_start_is_exit_code_2_and_one_line(command: tuple[str, ...]) -> None:
    """Also for the command of Airflow's Helm chart."""
    done = run_entrypoint(*command)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: AIRFLOW__CORE__EXECUTOR is not set, and this image runs tasks on Celery's workers: "
        "set it to CeleryExecutor"
    ]


def test_a_failed_health_check_is_exit_code_1_and_one_line(tmp_path: Path) -> None:
    """Docker reserves 2 in a health check."""
    done = run_entrypoint("check-cleaner", TMPDIR=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == (
        "error: no cleaning has succeeded within a day: read this container's log\n"
    )


def test_a_program_replaces_the_entrypoint() -> None:
    """The process is the program itself, so signals reach it."""
    done = run_entrypoint("python", "-c", "import os; print(os.getpid())")
    assert done.returncode == 0
    again = subprocess.Popen(
        [sys.executable, "-m", "airflow_image", "sleep", "60"], cwd=ROOT, stderr=subprocess.PIPE
    )
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            again.wait(2)
        again.terminate()
        assert again.wait(10) == -15
    finally:
        again.kill()
        again.communicate()


@pytest.mark.parametrize(
    "content",
    [
        b"x: " + b"[" * 1500,
        b"requirements: [" + b"a, " * 100_000 + b"b]",
        b'requirements: ["a\\0b"]',
        b"requirements: [/dev/zero, /]",
        b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nrequirements: [*c, *c]",
        b"\xff\xfe",
    ],
    ids=["deep", "large", "nul", "device", "aliases", "bytes"],
)
def test_no_experiment_file_keeps_a_worker_from_starting(tmp_path: Path, content: bytes) -> None:
    """Its own DAG says what is wrong; here it costs at most a warning."""
    folder = tmp_path / "experiments"
    (tmp_path / "dags").mkdir()
    folder.mkdir()
    (folder / "odd.yaml").write_bytes(content)
    os.mkfifo(folder / "pipe.yaml")
    (folder / "endless.yaml").symlink_to("/dev/zero")
    (folder / "gone.yaml").write_text("requirements: [gone-1.0-py3-none-any.whl]")
    found = list(
        start_checks.missing_wheels({"AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags")})
    )
    assert [line for line in found if line.startswith("gone.yaml needs gone-1.0")]
    assert all(line.startswith(("gone.yaml needs", "odd.yaml needs")) for line in found)
