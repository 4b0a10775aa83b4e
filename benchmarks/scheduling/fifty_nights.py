"""Fifty nights that begin in the same minute: waits, worker slots, pool, and stored bytes.

    python -m benchmarks.scheduling.fifty_nights [--nights N] [--slots N] [--training-s S]

Airflow's own scheduler, triggerer, API server and DAG processor run with its LocalExecutor and a
new SQLite database. The DAGs are the real ones; `stand_in_dags.py` says what their tasks do. The
size of the database is that of a compacted copy, with its indexes, so it grows by what the nights
store. A Postgres database may need more or less for the same rows.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from laptop.figures.records import write_record
from laptop.places import ROOT, tool
from laptop.ui import free_port

MOST_KB_PER_NIGHT = 40.0
SERVICES = ("api-server", "scheduler", "dag-processor", "triggerer")
ENDED = ("success", "failed")


def make_project(folder: Path, nights: int, due: datetime) -> None:
    """Write the DAG file and its experiments, all of them due in the same minute."""
    dags = folder / "dags"
    (dags / "experiments").mkdir(parents=True)
    shutil.copy(ROOT / "benchmarks/scheduling/stand_in_dags.py", dags / "stand_in_dags.py")
    text = (ROOT / "experiments/cartpole_ppo.yaml").read_text()
    text = text.replace('schedule: "0 2 * * *"', f'schedule: "{due.minute} {due.hour} * * *"')
    for number in range(nights):
        (dags / "experiments" / f"night_{number:03}.yaml").write_text(text)


def settings(home: Path, slots: int, training_s: float) -> dict[str, str]:
    """The variables of the Airflow that is measured."""
    port = free_port()
    return os.environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API_AUTH__JWT_SECRET": "of a benchmark, and of no use elsewhere, as it ends soon",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": str(slots),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "NIGHTSHIFT_BENCH_TRAINING_S": str(training_s),
    }


@contextlib.contextmanager
def running(home: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run Airflow's services, and end each with all its processes afterwards."""
    services = []
    try:
        for name in SERVICES:
            with (home / f"{name}.log").open("wb") as log:
                services.append(
                    subprocess.Popen(
                        [tool("airflow"), name],
                        env=environment,
                        cwd=ROOT,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )
                )
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for service in services:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(service.pid, number)
            for service in services:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    service.wait(20)


def ask(home: Path, question: str) -> list[tuple[Any, ...]]:
    """Read from Airflow's database, which its services use at the same time."""
    with contextlib.closing(sqlite3.connect(home / "airflow.db", timeout=60)) as database:
        return database.execute(question).fetchall()


def stored_bytes(home: Path) -> int:
    """Return the size of a compacted copy of the database."""
    copy = home / "copy.db"
    copy.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(home / "airflow.db", timeout=60)) as database:
        database.execute("VACUUM INTO ?", (str(copy),))
    return copy.stat().st_size


def watch(home: Path, nights: int, deadline: float) -> dict[str, int]:
    """Wait until all nights have ended. :return: the most that was in use at a time."""
    most = {"worker_slots": 0, "pool_slots": 0, "deferred_tasks": 0}
    while True:
        now = {
            "worker_slots": "count(*) FROM task_instance WHERE state = 'running'",
            "pool_slots": "coalesce(sum(pool_slots), 0) FROM task_instance "
            "WHERE pool = 'nightshift_vcpus' AND state IN ('queued', 'running', 'deferred')",
            "deferred_tasks": "count(*) FROM task_instance WHERE state = 'deferred'",
        }
        for name, rest in now.items():
            most[name] = max(most[name], ask(home, f"SELECT {rest}")[0][0])
        ended = ask(home, f"SELECT count(*) FROM dag_run WHERE state IN {ENDED}")[0][0]  # noqa: S608
        if ended >= nights or time.monotonic() > deadline:
            return most
        time.sleep(2)


def waits(home: Path) -> dict[str, dict[str, float]]:
    """Return for each task the seconds from when it could run until a worker ran it.

    Tasks that were deferred are left out: they could run twice, and Airflow keeps the second time.
    """
    found: dict[str, list[float]] = {}
    for task_id, ready, started in ask(
        home, "SELECT task_id, scheduled_dttm, start_date FROM task_instance WHERE start_date > ''"
    ):
        if ready:
            times = [datetime.fromisoformat(text) for text in (ready, started)]
            if times[0] <= times[1]:
                found.setdefault(task_id, []).append((times[1] - times[0]).total_seconds())
    return {
        task_id: {"median_s": statistics.median(times), "longest_s": max(times)}
        for task_id, times in found.items()
    }


def wait_for_dags(home: Path, nights: int, due: datetime) -> None:
    """Wait until all DAGs are parsed.

    :raises SystemExit: if they are not there some seconds before the nights begin.
    """
    while (dags := ask(home, "SELECT count(*) FROM serialized_dag")[0][0]) < nights:
        if datetime.now(UTC) > due - timedelta(seconds=10):
            sys.exit(f"error: {dags} of {nights} DAGs were parsed in time: give more --lead-min")
        time.sleep(2)


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Run the nights once."""
    nights = given.nights
    with tempfile.TemporaryDirectory(prefix="nightshift-nights-") as scratch:
        home = Path(scratch)
        environment = settings(home, given.slots, given.training_s)
        subprocess.run(
            [tool("airflow"), "db", "migrate"], env=environment, capture_output=True, check=True
        )
        now = datetime.now(UTC).replace(second=0, microsecond=0)
        due = now + timedelta(minutes=given.lead_min)
        make_project(home, nights, due)
        with running(home, environment):
            wait_for_dags(home, nights, due)
            before = stored_bytes(home)
            time.sleep(max(0.0, (due - datetime.now(UTC)).total_seconds()))
            most = watch(home, nights, time.monotonic() + given.most_s)
            states = dict(ask(home, "SELECT state, count(*) FROM dag_run GROUP BY state"))
            [(first, last)] = ask(home, "SELECT min(start_date), max(end_date) FROM dag_run")
            after = stored_bytes(home)
            measured = {
                "waits": waits(home),
                "task_rows": ask(home, "SELECT count(*) FROM task_instance")[0][0] / nights,
            }
    if not last:
        sys.exit(f"error: no night ended in {given.most_s:g} s: {states}")
    return {
        **measured,
        "nights": nights,
        "worker_slots": given.slots,
        "training_s": given.training_s,
        "states": states,
        "most_in_use": most,
        "from_first_start_to_last_end_s": (
            datetime.fromisoformat(last) - datetime.fromisoformat(first)
        ).total_seconds(),
        "kb_per_night": (after - before) / nights / 1000,
        "most_kb_per_night": MOST_KB_PER_NIGHT,
    }


def main(arguments: list[str]) -> int:
    """Measure and record. :return: 1 if a night failed, or stored more than is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scheduling.fifty_nights")
    parser.add_argument("--nights", type=int, default=50)
    parser.add_argument("--slots", type=int, default=8, help="tasks that may run at a time")
    parser.add_argument("--training-s", type=float, default=60.0, help="how long `await` waits")
    parser.add_argument("--most-s", type=float, default=3600.0, help="give up after so long")
    parser.add_argument(
        "--lead-min", type=float, default=5.0, help="minutes in which Airflow parses the DAGs"
    )
    given = parser.parse_args(arguments)
    result = measure(given)
    print(json.dumps({**result, "record": str(write_record("fifty-nights", result))}, indent=1))
    failed = result["states"].get("success", 0) < given.nights
    return int(failed or result["kb_per_night"] > MOST_KB_PER_NIGHT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
