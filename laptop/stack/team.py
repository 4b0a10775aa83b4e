"""Start, watch and stop a team's Airflow on this host."""

import fcntl
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Self

from laptop import airflow, local_account
from laptop.errors import StepFailedError
from laptop.places import ROOT, state_folder
from laptop.stack.compose_file import ComposeService, read_image_variables, read_services
from laptop.stack.dotenv import LOG_BUCKET, load_variables
from laptop.stack.one_host import OneHost, Ports
from laptop.stack.programs import airflow_python, find_programs
from laptop.stack.servers import Servers
from laptop.stack.supervisor import Program, Supervisor, stop_leftovers
from laptop.stack.timeouts import SHORT_TIMEOUTS

COMPOSE, DOCKERFILE = ROOT / "docker-compose.yaml", ROOT / "Dockerfile"
#: The identities in the local AWS: of workers and triggerers, and of the API server.
WORKER_ROLE, API_SERVER_ROLE = "airflow-worker", "airflow-api-server"
ENVIRONMENT = "dev"
#: What an administrator does once in an account (docs/team.md).
DEPLOY = (
    *("deploy", "--environment", ENVIRONMENT, "--airflow-role", WORKER_ROLE),
    *("--lambda-runtime", f"python{sys.version_info.major}.{sys.version_info.minor}"),
)
IDENTITIES = (WORKER_ROLE, API_SERVER_ROLE, LOG_BUCKET, ENVIRONMENT)
#: In compose, which service has which keys: the variable that its access key comes from.
ROLES = {"AWS_ACCESS_KEY_ID": WORKER_ROLE, "LOGS_AWS_ACCESS_KEY_ID": API_SERVER_ROLE}
#: What all services need, so it ends after them.
SERVERS = ("postgres", "redis")
#: On two cores it takes a minute, and took five while other programs used both (docs/team.md).
#: Three times as long, because what is only slow must not be ended. A refusal ends the wait.
HEALTHY_WITHIN_S = 900.0


class TeamStack:
    """The stack in the state folder. As a context manager it stops everything at the end.

    :param dags: the folder of the DAG files.
    :param settings: Airflow's variables to change, for tests.
    :param hold: names of processes that are not started yet.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        *,
        dags: Path = ROOT / "dags",
        settings: Mapping[str, str] | None = None,
        hold: tuple[str, ...] = (),
    ) -> None:
        self.say, self.dags, self.hold = say, dags, hold
        self.settings = dict(SHORT_TIMEOUTS) | dict(settings or {})
        self.state = state_folder() / "stack"
        self.logs = self.state / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.state / "lock")
        self.python = airflow_python()
        self.programs = find_programs()
        stop_leftovers(self.state / "pids")
        self.ports = Ports.load(self.state / "ports.json")
        self.url = f"http://127.0.0.1:{self.ports.api}"
        self.env_file = self.state / ".env"
        self.variables = load_variables(self.env_file, ROOT / ".env.example", self.url)
        # The names stand for keys, so that one sees which service would get which.
        self.services = read_services(
            COMPOSE, self.variables | {key: key for key in ROLES}, self.env_file
        )
        self.supervisor = Supervisor(self.state / "pids")

    def __enter__(self) -> Self:
        """Start everything, and wait until Airflow is healthy."""
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop everything. Databases, logs and secrets stay for the next start."""
        self.supervisor.close(last=SERVERS)
        self._lock.close()

    @property
    def password(self) -> str:
        """The password of `admin`."""
        return self.variables["AIRFLOW_ADMIN_PASSWORD"]

    def names_of(self, service: str) -> list[str]:
        """Return the names of a service's processes, as compose names its containers."""
        replicas = self.services[service].replicas
        return (
            [f"{service}-{number}" for number in range(1, replicas + 1)]
            if replicas > 1
            else [service]
        )

    def run_once(self, service: str, *instead: str) -> None:
        """Run a service that ends, e.g. `airflow-init`, or another command in its container.

        :raises StepFailedError: if it fails.
        """
        program = self._program(self.services[service], service)
        airflow.run(
            [*program.command[:3], *(instead or program.command[3:])],
            program.environment,
            step=service,
            log_name=f"stack-{service}.log",
        )

    def is_healthy(self) -> bool:
        """Say whether the API server, scheduler, triggerer and dag-processor are healthy."""
        try:
            with urllib.request.urlopen(  # noqa: S310 (our own loopback URL)
                f"{self.url}/api/v2/monitor/health", timeout=10
            ) as answer:
                parts = json.load(answer)
        except (OSError, ValueError):
            return False
        wanted = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all(parts[name]["status"] == "healthy" for name in wanted)

    def _start(self) -> None:
        self.say("the local AWS and its stacks, and airflow-init, which migrates the database")
        with ThreadPoolExecutor(1) as other:  # neither needs the other
            account = other.submit(_prepare_account)
            self._prepare_database()
            account.result()
        for service in self.services.values():
            if service.is_airflow and not service.profiles:
                for name in self.names_of(service.name):
                    if name not in self.hold:
                        self.start(service.name, name)
        self.say("waiting for Airflow")
        self._wait_until_healthy()

    def _prepare_database(self) -> None:
        servers = Servers(self.programs, self.state, self.logs, self.supervisor)
        servers.start_postgres(self.services["postgres"], self.ports.postgres)
        servers.start_redis(self.services["redis"], self.ports.redis)
        self.run_once("airflow-init")

    def _wait_until_healthy(self) -> None:
        """Wait for Airflow. :raises StepFailedError: at once if a service refuses its settings"""
        healthy = False

        def is_decided() -> bool:
            nonlocal healthy
            healthy = self.is_healthy()
            return healthy or self.supervisor.find_refusal() is not None

        airflow.wait_for(is_decided, HEALTHY_WITHIN_S)
        if healthy:
            return
        if (refusal := self.supervisor.find_refusal()) is not None:
            raise StepFailedError(*refusal, f"correct {self.env_file}, then make stack")
        raise StepFailedError(
            "the stack", "Airflow did not become healthy", f"less {self.logs}/*.log"
        )

    def start(self, service: str, name: str) -> None:
        """Start a process of a service."""
        self.supervisor.start(name, self._program(self.services[service], name))

    def environment_of(self, service: ComposeService, name: str) -> dict[str, str]:
        """Return the variables of a process: the image's, compose's, and the identity on AWS."""
        home = self.state / "homes" / name
        host = OneHost(self.ports, home, self.dags)
        own = {key: text for key, text in service.environment.items() if not _is_aws(key)}
        keys = service.environment.get("AWS_ACCESS_KEY_ID")
        return {
            **host.environment(read_image_variables(DOCKERFILE) | own),
            **(_aws_variables(ROLES[keys]) if keys else {}),
            **self.settings,
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "laptop.stack.host_name.get_host_name",
            "HOSTNAME": name,
            "PATH": f"{self.python.parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "HOME": str(home),
            "TMPDIR": str(home / "tmp"),
            "LC_ALL": "C.UTF-8",
        }

    def _program(self, service: ComposeService, name: str) -> Program:
        environment = self.environment_of(service, name)
        home = Path(environment["HOME"])
        (home / "tmp").mkdir(parents=True, exist_ok=True)
        command = [str(self.python), "-m", "airflow_image", *service.command]
        if service.command == ("celery", "worker") and name != service.name:
            # A container has a host name of its own, from which Celery makes the worker's name.
            command += ["--celery-hostname", f"{name}@%h"]
        return Program(
            tuple(command), environment, home, self.logs / f"{name}.log", service.restarts
        )


def _is_aws(name: str) -> bool:
    return name.startswith("AWS_")


def _aws_variables(role: str) -> dict[str, str]:
    found: dict[str, str] = local_account.call("env", "--as", role)["set"]
    return found


def _prepare_account() -> None:
    """Start the local AWS, with the stacks, the identities and the bucket for logs."""
    account = local_account.call("up")["account_id"]
    viewer_of = f"ApiServerArn=arn:aws:iam::{account}:role/{API_SERVER_ROLE}"
    _as_administrator("the stacks", "infra_bootstrap", *DEPLOY, "--parameter", viewer_of)
    _as_administrator("the identities", "laptop.stack.identities", *IDENTITIES)


def _as_administrator(step: str, module: str, *arguments: str) -> None:
    """Run a module of ours as the local AWS's administrator. It may be repeated."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=local_account.environment("administrator"),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no output"]
        raise StepFailedError(step, lines[-1], "make clean, then make stack")


def _lock(file: Path) -> IO[str]:
    """Take the state folder for this process."""
    opened = file.open("w")
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        opened.close()
        raise StepFailedError(
            "the stack", "it already runs from this folder", "stop it with Ctrl-C, then try again"
        ) from None
    return opened
