"""Where the containers' names, ports and folders are when all services run on one host.

Containers have addresses and disks of their own. Here the addresses are ports of the loopback
interface, and each process has a home of its own, so services share no more disk than containers.
Each has its container's name as its host name. Only the log of a task that runs now cannot be read,
because workers on one host cannot share the port at which Airflow looks for it.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from laptop.errors import StackFileError
from laptop.places import ROOT
from laptop.ui import free_port

#: The ports that a container has to itself: variable → what listens. Each process gets its own.
OWN_PORTS = (
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT",
    "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT",
    "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT",
)
HOME = "/opt/airflow"
PROJECT = f"{HOME}/nightshift"
CACHE = f"{HOME}/nightshift-cache"


@dataclass(frozen=True)
class Ports:
    """The ports of the addresses that services share."""

    postgres: int
    redis: int
    api: int
    statsd: int

    @staticmethod
    def load(file: Path) -> "Ports":
        """Read the ports of an earlier start, or choose free ones and write them down."""
        if not file.exists():
            names = ("postgres", "redis", "api", "statsd")
            file.write_text(json.dumps({name: free_port() for name in names}))
        return Ports(**json.loads(file.read_text()))


class OneHost:
    """Translates what compose says for containers into what holds on this host.

    :param home: the home of one process.
    :param dags: the folder of the DAG files.
    """

    def __init__(self, ports: Ports, home: Path, dags: Path) -> None:
        local = "127.0.0.1"
        self.words = {
            "@postgres/": f"@{local}:{ports.postgres}/",
            "@redis:6379/": f"@{local}:{ports.redis}/",
            "airflow-apiserver:8080": f"{local}:{ports.api}",
            f"{PROJECT}/dags": str(dags),
            CACHE: str(ROOT / ".cache"),
            PROJECT: str(ROOT),
            HOME: str(home),
        }
        self.exact = {
            "AIRFLOW__API__PORT": str(ports.api),
            "AIRFLOW__METRICS__STATSD_HOST": local,
            "AIRFLOW__METRICS__STATSD_PORT": str(ports.statsd),
        }

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Translate a service's variables. :raises StackFileError: if a container's name is left"""
        translated = {name: self._value(name, text) for name, text in variables.items()}
        if "AIRFLOW__API__PORT" in translated:
            translated["AIRFLOW__API__HOST"] = "127.0.0.1"
        _refuse_container_names(translated.items())
        return translated

    def _value(self, name: str, text: str) -> str:
        if name in self.exact:
            return self.exact[name]
        if name in OWN_PORTS:
            return str(free_port())
        for word, here in self.words.items():
            text = text.replace(word, here)
        return text


def _refuse_container_names(variables: Iterable[tuple[str, str]]) -> None:
    """Notice an address that was added to the compose file and is not in the tables above."""
    for name, text in variables:
        for container in ("@postgres", "@redis", "://airflow-", HOME + "/"):
            if container in text:
                raise StackFileError(name, f"{container} has no translation in laptop.stack")
