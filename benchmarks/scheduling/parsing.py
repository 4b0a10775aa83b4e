"""CPU time to parse and serialize a DAG of 500 experiments, in turns with another revision.

    python -m benchmarks.scheduling.parsing [--against REVISION] [--experiments N] [--rounds N]

Each round measures both sides in fresh processes, one after the other, so that a busy computer
slows both down. Then Airflow's own DAG processor reads all DAG files once on one core, with its
default limits on time, into a new SQLite database.
"""

import argparse
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from laptop.figures.records import write_record
from laptop.places import ROOT, tool

#: The last revision that copied the form into each task.
BEFORE = "fc60bc5"
MOST_SHARE = 0.4
ONCE = ROOT / "benchmarks" / "scheduling" / "parse_once.py"


def make_project(checkout: Path, folder: Path, n_experiments: int) -> Path:
    """Copy a revision's DAG files beside as many copies of its experiments, with other names."""
    shutil.copytree(checkout / "dags", folder / "dags")
    (folder / "experiments").mkdir()
    texts = [path.read_text() for path in sorted((checkout / "experiments").glob("*.yaml"))]
    for number in range(n_experiments):
        path = folder / "experiments" / f"experiment_{number:04}.yaml"
        path.write_text(texts[number % len(texts)])
    return folder


def check_out(revision: str, folder: Path) -> Path:
    """Write the files of a revision into a folder."""
    folder.mkdir()
    archive = subprocess.run(
        ["git", "archive", revision], cwd=ROOT, capture_output=True, check=True
    )
    subprocess.run(["tar", "x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


def settings(home: Path, project: Path, checkout: Path) -> dict[str, str]:
    """The variables of an Airflow that reads a project with the plugins of a checkout."""
    return os.environ | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(project / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(checkout / "plugins"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    }


def parse_once(checkout: Path, project: Path, home: Path) -> dict[str, Any]:
    """Measure one side once, without a limit on the time: a slow side must end, too."""
    done = subprocess.run(
        [sys.executable, str(ONCE), str(checkout), str(project)],
        env=settings(home, project, checkout) | {"AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "0"},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"error: {done.stderr}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if measured["import_errors"]:
        sys.exit(f"error: {measured['import_errors']}")
    cpu_s = measured["parsing_cpu_s"] + measured["serializing_cpu_s"]
    return measured | {"cpu_ms_per_dag": cpu_s / measured["dags"] * 1000}


def process_dags(home: Path, project: Path) -> dict[str, Any]:
    """Let Airflow's DAG processor read each DAG file once on one core, into a new database."""
    environment = settings(home, project, ROOT)
    subprocess.run(
        [tool("airflow"), "db", "migrate"], env=environment, capture_output=True, check=True
    )
    before, began = psutil.Process().cpu_times(), time.monotonic()
    done = subprocess.run(
        [tool("airflow"), "dag-processor", "--num-runs", "1"],
        env=environment,
        preexec_fn=use_one_core,
        capture_output=True,
        text=True,
        check=False,
    )
    wall_s, after = time.monotonic() - began, psutil.Process().cpu_times()
    with sqlite3.connect(home / "airflow.db") as database:
        [(dags, longest)] = database.execute(
            "SELECT count(*), max(last_parse_duration) FROM dag WHERE dag_id LIKE 'retrain_%'"
        )
        [(errors,)] = database.execute("SELECT count(*) FROM import_error")
    return {
        "dags": dags,
        "import_errors": errors,
        "killed_files": done.stdout.count("Killing it"),
        "longest_file_wall_s": longest,
        "wall_s": wall_s,
        "cpu_s": after.children_user
        + after.children_system
        - before.children_user
        - before.children_system,
        "limits_s": {"import": 30, "file": 50},
    }


def use_one_core() -> None:
    """Leave this process and its children one of the cores that they may use."""
    if hasattr(os, "sched_setaffinity"):  # not on macOS
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def measure(revision: str, n_experiments: int, rounds: int) -> dict[str, Any]:
    """Measure both revisions in turns, then the DAG processor with this one."""
    with tempfile.TemporaryDirectory(prefix="nightshift-parsing-") as scratch:
        folder = Path(scratch)
        checkouts = {"before": check_out(revision, folder / "checkout"), "now": ROOT}
        projects = {
            side: make_project(checkout, folder / side, n_experiments)
            for side, checkout in checkouts.items()
        }
        homes = {name: folder / f"home-{name}" for name in (*checkouts, "processor")}
        for home in homes.values():
            home.mkdir()
        taken: dict[str, list[dict[str, Any]]] = {side: [] for side in checkouts}
        for number in range(rounds):
            for side, checkout in checkouts.items():
                taken[side].append(parse_once(checkout, projects[side], homes[side]))
                print(f"round {number + 1}, {side}: {taken[side][-1]}", file=sys.stderr)
        processor = process_dags(homes["processor"], projects["now"])
    shares = [
        now["cpu_ms_per_dag"] / before["cpu_ms_per_dag"]
        for before, now in zip(taken["before"], taken["now"], strict=True)
    ]
    return {
        "experiments": n_experiments,
        "before": revision,
        "rounds": taken,
        "cpu_ms_per_dag": {
            side: statistics.median(one["cpu_ms_per_dag"] for one in found)
            for side, found in taken.items()
        },
        "share": statistics.median(shares),
        "most_share": MOST_SHARE,
        "dag_processor": processor,
    }


def main(arguments: list[str]) -> int:
    """Measure and record. :return: 1 if more is needed than is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scheduling.parsing")
    parser.add_argument("--against", default=BEFORE, help="the revision to compare with")
    parser.add_argument("--experiments", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    result = measure(given.against, given.experiments, given.rounds)
    print(json.dumps({**result, "record": str(write_record("parsing", result))}, indent=1))
    processor = result["dag_processor"]
    good = processor["dags"] == given.experiments
    return int(result["share"] > MOST_SHARE or not good or processor["killed_files"] > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
