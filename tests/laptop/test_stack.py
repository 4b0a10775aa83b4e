"""The runner of a team's Airflow: it reads compose's file, restarts what exits, and cleans up."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from airflow_image.__main__ import service_of
from airflow_image.services import SECRETS, SERVICES
from airflow_image.start_checks import check_secrets
from laptop.airflow import wait_for
from laptop.errors import MissingProgramError, MissingVariableError, StackFileError
from laptop.stack.compose_file import ComposeService, read_image_variables, read_services
from laptop.stack.dotenv import load_variables
from laptop.stack.one_host import OneHost, Ports
from laptop.stack.programs import NEEDED, find_programs
from laptop.stack.supervisor import Program, Supervisor, stop_leftovers
from laptop.stack.timeouts import SHORT_TIMEOUTS
from tests.conftest import ROOT

COMPOSE = ROOT / "docker-compose.yaml"
ENV_FILE = Path(".nightshift/stack/.env")


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """A new `.env`."""
    return load_variables(tmp_path / ".env", ROOT / ".env.example", "http://127.0.0.1:1")


@pytest.fixture
def services(variables: dict[str, str]) -> dict[str, ComposeService]:
    """The services of compose's file."""
    return read_services(COMPOSE, variables, ENV_FILE)


def test_the_secrets_are_made_once_and_only_we_can_read_them(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    """A second start uses the same ones, because the database knows them."""
    file = tmp_path / ".env"
    assert load_variables(file, ROOT / ".env.example", "http://other") == variables
    assert file.stat().st_mode & 0o077 == 0
    assert len({variables[name] for name in SECRETS.values()}) == len(SECRETS)


def test_every_service_passes_the_images_own_check(services: dict[str, ComposeService]) -> None:
    """What the entrypoint asks for is in compose's file, and made as .env.example says."""
    started = {service_of(list(one.command)): one for one in services.values() if one.is_airflow}
    assert set(started) == set(SERVICES)
    for service, one in started.items():
        check_secrets(str(service), one.environment)


@pytest.mark.parametrize("missing", [{"POSTGRES_PASSWORD": ""}, {"AIRFLOW_LOG_FOLDER": ""}, {}])
def test_a_missing_variable_is_refused_and_its_file_is_named(
    variables: dict[str, str], missing: dict[str, str]
) -> None:
    """The line has the variable, compose's own words, and the file that holds it here."""
    given = variables | missing if missing else {}
    name = next(iter(missing), "POSTGRES_PASSWORD")
    with pytest.raises(MissingVariableError) as refused:
        read_services(COMPOSE, given, ENV_FILE)
    first = str(refused.value).splitlines()[0]
    assert first.startswith(f"{name} is missing or empty: set it in .nightshift/stack/.env")


def test_the_file_of_variables_may_have_comments(tmp_path: Path, variables: dict[str, str]) -> None:
    """A person may edit it."""
    with (tmp_path / ".env").open("a") as file:
        file.write("\n# a note\nno variable\nAWS_REGION=eu-central-1\n")
    changed = load_variables(tmp_path / ".env", ROOT / ".env.example", "http://127.0.0.1:1")
    assert changed == variables | {"AWS_REGION": "eu-central-1"}


def test_no_address_or_folder_of_a_container_is_left(
    services: dict[str, ComposeService], tmp_path: Path
) -> None:
    """Everything is on this host, and two processes share no folder and no port."""
    ports = Ports(1001, 1002, 1003, 1004)
    found = {}
    for name, service in services.items():
        if service.is_airflow:
            host = OneHost(ports, tmp_path / name, ROOT / "dags")
            found[name] = host.environment(
                read_image_variables(ROOT / "Dockerfile") | service.environment
            )
            assert "/opt/airflow" not in str(found[name])
            assert found[name]["AIRFLOW_HOME"] == str(tmp_path / name)
    worker = found["airflow-worker"]
    assert worker["AIRFLOW__CELERY__BROKER_URL"].endswith("@127.0.0.1:1002/0")
    assert worker["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:1003/execution/"
    assert worker["AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT"] != "8793"
    assert worker["AIRFLOW__CORE__DAGS_FOLDER"] == str(ROOT / "dags")


def test_an_address_without_a_translation_is_refused(tmp_path: Path) -> None:
    """A new address in compose's file cannot reach a name that does not exist here."""
    with pytest.raises(StackFileError, match="no translation"):
        OneHost(Ports(1, 2, 3, 4), tmp_path, tmp_path).environment({"A": "redis://:x@redis:1/0"})


def test_only_time_outs_differ_from_compose() -> None:
    """The table has nothing but seconds, and no setting that compose chose."""
    chosen = COMPOSE.read_text()
    for name, value in SHORT_TIMEOUTS.items():
        assert float(value) <= 30
        assert name not in chosen


def test_servers_of_the_system_are_used_where_there_are_no_wheels(tmp_path: Path) -> None:
    """Programs on PATH serve as well, and a missing one is named with what to install."""
    programs = tmp_path / "bin"
    programs.mkdir()
    with pytest.raises(MissingProgramError, match="Postgres is not installed\n  next: install it"):
        find_programs(tmp_path / "no-environment", str(programs))
    for name in NEEDED:
        (programs / name).touch(mode=0o755)
    with pytest.raises(MissingProgramError, match="Redis is not installed"):
        find_programs(tmp_path / "no-environment", str(programs))
    (programs / "redis-server").touch(mode=0o755)
    found = find_programs(tmp_path / "no-environment", str(programs))
    assert (found.postgres, found.redis) == (programs, programs / "redis-server")


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """A supervisor that ends with the test."""
    made = Supervisor(tmp_path / "pids")
    yield made
    made.close()


def program(tmp_path: Path, code: str, *, restarts: bool = True) -> Program:
    """A program in Python."""
    return Program(
        (sys.executable, "-c", code), dict(os.environ), tmp_path, tmp_path / "log", restarts
    )


SLEEP = "import time; time.sleep(600)"


def test_what_exits_is_started_again_until_it_is_stopped(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    """A killed process comes back with another number; a stopped one stays away."""
    supervisor.start("a", program(tmp_path, SLEEP))
    first = supervisor.pid("a")
    supervisor.kill("a")
    assert wait_for(lambda: supervisor.pid("a") not in (None, first), 20, 0.05)
    assert supervisor.starts("a") == 2
    supervisor.stop(["a"])
    assert not wait_for(lambda: supervisor.pid("a") is not None, 1)
    supervisor.start("a")
    assert supervisor.pid("a") is not None


def test_a_service_that_ends_once_is_left_alone(supervisor: Supervisor, tmp_path: Path) -> None:
    """As with compose's `restart: no`."""
    supervisor.start("a", program(tmp_path, "pass", restarts=False))
    assert wait_for(lambda: supervisor.pid("a") is None, 20, 0.05)
    assert not wait_for(lambda: supervisor.starts("a") > 1, 1)


def test_a_process_that_fails_at_once_is_started_ever_more_slowly(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    """It must not take the whole machine: 0.1 s, 0.2 s, 0.4 s, …"""
    supervisor.start("a", program(tmp_path, "raise SystemExit(1)"))
    assert wait_for(lambda: supervisor.starts("a") >= 3, 30, 0.05)
    assert not wait_for(lambda: supervisor.starts("a") > 7, 4)


def test_a_service_that_refuses_each_start_is_found(supervisor: Supervisor, tmp_path: Path) -> None:
    """Its line is known long before the time for a slow start is up. A crash is no refusal."""
    code = "import sys; print('error: X is missing', file=sys.stderr); raise SystemExit({})"
    supervisor.start("crashes", program(tmp_path, code.format(1)))
    assert wait_for(lambda: supervisor.starts("crashes") >= 4, 30, 0.05)
    assert supervisor.find_refusal() is None
    supervisor.start("refuses", program(tmp_path, code.format(2)))
    assert wait_for(lambda: supervisor.find_refusal() is not None, 30, 0.05)
    assert supervisor.find_refusal() == ("refuses", "X is missing")


def test_a_processs_children_end_with_it(supervisor: Supervisor, tmp_path: Path) -> None:
    """As everything in a container does."""
    code = f"import subprocess as s, sys; s.Popen([sys.executable, '-c', {SLEEP!r}]); {SLEEP}"
    supervisor.start("a", program(tmp_path, code, restarts=False))
    pid = supervisor.pid("a")
    assert pid is not None
    assert wait_for(lambda: bool(psutil.Process(pid).children()), 20)
    (child,) = psutil.Process(pid).children()
    supervisor.kill("a", signal.SIGTERM)
    assert wait_for(
        lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 20, 0.1
    )


def test_what_a_killed_runner_left_is_ended_and_nothing_else(tmp_path: Path) -> None:
    """A number in the file that belongs to another process by now is left alone."""
    left = Supervisor(tmp_path / "pids")
    left.start("a", program(tmp_path, SLEEP))
    pid = left.pid("a")
    assert pid is not None
    left._over.set()  # the runner's thread is gone, as after SIGKILL
    left._thread.join()
    with (tmp_path / "pids").open("a") as file:
        file.write(f"{os.getpid()} 0.00\n")
    stop_leftovers(tmp_path / "pids")
    assert wait_for(lambda: left.pid("a") is None, 20, 0.05)
    assert not (tmp_path / "pids").exists()
