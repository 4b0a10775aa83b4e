"""Airflow's UI on the local AWS; it runs until you press Ctrl-C."""

import json
import os
import secrets
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from laptop import airflow, demo, local_account
from laptop.errors import StepFailedError
from laptop.places import ROOT, log_folder, tool

HEALTHY_WITHIN_S = 300.0


def serve(port: int, say: Callable[[str], None]) -> None:
    """Bootstrap, start Airflow, print the URL and the login, and wait until interrupted.

    :param port: the UI's port on the loopback address. 0 means a free port.
    :raises StepFailedError: if the port is taken, or Airflow does not come up.
    """
    say("starting the local AWS")
    local_account.call("up")
    demo.bootstrap(say)
    say("starting Airflow: API server, scheduler, DAG processor and triggerer")
    say(f"  it takes a minute or two; its log: {_log()}")
    with running(port) as (url, user, password, process):
        say(f"Airflow at {url}\n  login: {user}\n  password: {password}\n  stop it with Ctrl-C")
        process.wait()


@contextmanager
def running(port: int = 0) -> Iterator[tuple[str, str, str, "subprocess.Popen[bytes]"]]:
    """Run Airflow's processes with the worker's role.

    :return: URL, user, password and the process to wait for.
    """
    port = port or free_port()
    _refuse_taken(port)
    environment = demo.airflow_environment(None) | _ui_settings(port)
    airflow.prepare(environment)
    log = _log()
    with (
        log.open("wb") as file,
        subprocess.Popen(
            [tool("airflow"), "standalone"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        ) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            airflow.wait_for(lambda: _healthy(url) or process.poll() is not None, HEALTHY_WITHIN_S)
            if not _healthy(url):
                raise StepFailedError(
                    "Airflow", airflow.last_words(log) or "it did not come up", f"less {log}"
                )
            yield url, "admin", _password(Path(environment["AIRFLOW_HOME"])), process
        finally:
            _stop(process)


def _log() -> Path:
    return log_folder() / "airflow-ui.log"


def free_port() -> int:
    """Return a free port of the loopback address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ui_settings(port: int) -> dict[str, str]:
    return {
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
    }


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise StepFailedError(
                "Airflow's UI", f"port {port} is taken", "make ui PORT=0"
            ) from None


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=10) as answer:  # noqa: S310 (our own loopback URL)
            parts = json.load(answer)
    except (OSError, ValueError):
        return False
    return all(parts[name]["status"] == "healthy" for name in ("metadatabase", "scheduler"))


def _password(home: Path) -> str:
    """Return the password of the only user, which is printed before Airflow would make it."""
    file = home / "simple_auth_manager_passwords.json.generated"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(json.dumps({"admin": secrets.token_urlsafe(12)}))
    passwords: dict[str, str] = json.loads(file.read_text())
    return passwords["admin"]


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End Airflow's process group: with SIGINT, then SIGTERM, then SIGKILL."""
    for number, patience_s in ((signal.SIGINT, 15), (signal.SIGTERM, 10), (signal.SIGKILL, 5)):
        if not _signal_group(process, number):
            return
        airflow.wait_for(lambda: not _signal_group(process, 0), patience_s, 0.2)


def _signal_group(process: "subprocess.Popen[bytes]", number: int) -> bool:
    """Send a signal to the process group. :return: False if no process is left."""
    process.poll()
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    return True
