"""Airflow on a laptop: its home is in the state folder, and the output of each command in a log."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from laptop.errors import StepFailedError
from laptop.places import ROOT, log_folder, state_folder, tool

#: The last line of a traceback.
EXCEPTION = re.compile(r"(?:[a-z_]\w*\.)*[A-Z]\w*(?:Error|Exception): (.+)")

#: Warnings about code that is not ours. Airflow writes them into each task's log. Its own plugin
#: loader causes the first one before it loads any plugin, so no plugin can silence it.
FOREIGN_WARNINGS = (
    "ignore:GitWildMatchPattern:DeprecationWarning",
    "ignore:Using `httpx` with `starlette.testclient`",
    "ignore:Could not import graphviz:UserWarning",
)

#: How much of such a line is shown.
MOST_CHARACTERS = 600


def settings() -> dict[str, str]:
    """The variables that make Airflow use this checkout and keep everything in the state folder."""
    home = state_folder() / "airflow"
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "15",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "SQLALCHEMY_SILENCE_UBER_WARNING": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": ",".join(FOREIGN_WARNINGS),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def prepare(environment: Mapping[str, str]) -> None:
    """Make Airflow's database, if it does not exist yet."""
    home = Path(environment["AIRFLOW_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    if (home / ".migrated").exists():
        return
    run(
        [tool("airflow"), "db", "migrate"],
        environment,
        step="airflow db migrate",
        log_name="airflow-db.log",
    )
    (home / ".migrated").touch()


def run_dag(
    dag_id: str,
    environment: Mapping[str, str],
    conf: str | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Path:
    """Run `airflow dags test` to its end.

    :param conf: JSON for the run's params. None means the defaults.
    :return: the log. :raises StepFailedError: if the run was not successful.
    """
    command = [tool("airflow"), "dags", "test", dag_id, *(("--conf", conf) if conf else ())]
    return run(
        command,
        environment,
        step=f"airflow dags test {dag_id}",
        log_name=f"{dag_id}.log",
        on_line=on_line,
    )


def run(
    command: list[str],
    environment: Mapping[str, str],
    *,
    step: str,
    log_name: str,
    on_line: Callable[[str], None] | None = None,
    deadline_s: float = 1800,
) -> Path:
    """Run a command, and write its output to a log.

    :param on_line: called with each line of the output.
    :param deadline_s: the command is killed after so many seconds.
    :raises StepFailedError: if the exit code is not 0, with the reason and the path of the log.
    """
    log = log_folder() / log_name
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        watchdog = threading.Timer(deadline_s, process.kill)
        watchdog.start()
        try:
            for line in process.stdout or ():
                file.write(line)
                file.flush()
                if on_line:
                    on_line(line.rstrip("\n"))
            code = process.wait()
        finally:
            watchdog.cancel()
            if process.poll() is None:
                process.terminate()
    if code:
        raise StepFailedError(step, last_words(log) or f"exit code {code}", f"less {log}")
    return log


def last_words(log: Path) -> str:
    """Find the line of a log that most likely gives the reason of a failure.

    This is the beginning of the last exception's message, else the last line that names an error,
    else the last line. A failed night ends with the exception of its verdict, whose message begins
    with the first cause.
    """
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    for line in reversed(lines):
        if raised := EXCEPTION.match(line):
            return raised.group(1)[:MOST_CHARACTERS]
    telling = [
        line
        for line in lines
        if "Error" in line or "error:" in line.lower() or "failed:" in line.lower()
    ]
    return (telling or lines or [""])[-1][-MOST_CHARACTERS:]


def wait_for(condition: Callable[[], bool], timeout_s: float, interval_s: float = 0.5) -> bool:
    """Wait until a condition holds. :return: False if `timeout_s` passed before."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(interval_s)
    return True
