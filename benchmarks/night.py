"""Where the time of one retraining goes, on the local AWS: a record of a first and of a second
night.

`python -m benchmarks.night` uses a state folder of its own, so the developer's stays as it is.
"""

import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.local_aws_runs import as_role, run_command, state_folder
from benchmarks.records import ROOT, write_record

DAG = "retrain_cartpole_ppo"
#: Which tasks make up which part of the night, as the record names it.
PARTS = {
    "freeze": ("freeze_spec", "check_environment"),
    "launch": ("launch",),
    "train": ("await",),
    "select": ("select",),
    "evaluate_and_decide": ("judge",),
    "promote_and_report": ("promote", "report", "verdict"),
    "teardown": ("terminate",),
}


def measure() -> dict[str, Any]:
    """Run two nights in a fresh state folder and read where their time went."""
    with state_folder() as environment:
        return {
            "parse_s_beyond_importing_airflow": _parse_seconds(environment),
            "nights": [_night(environment) for _ in range(2)],
        }


def _night(environment: dict[str, str]) -> dict[str, Any]:
    began = time.monotonic()
    done = run_command([sys.executable, "-m", "laptop", "demo", "--json"], environment)
    result = json.loads(done)
    summary = result["nights"][DAG.removeprefix("retrain_")]["summary"]
    trials = [
        {key: one[key] for key in ("trial", "step", "steps_per_s", "seconds")}
        for one in summary["trials"]
    ]
    return {
        "total_s": round(time.monotonic() - began, 1),
        "steps": result["seconds"],
        **_parts(environment),
        "trials": trials,
        "stacks": result["stacks"],
        "decision": summary["verdict"]["decision"],
    }


def _parts(environment: dict[str, str]) -> dict[str, dict[str, float]]:
    """Read the tasks' times from Airflow's own database, through its command line."""
    airflow = str(Path(sys.executable).parent / "airflow")
    exported = as_role(None, environment)
    runs = _read_table(
        run_command([airflow, "dags", "list-runs", DAG, "--output", "json"], exported)
    )
    newest = max(runs, key=lambda run: run["start_date"])["run_id"]
    rows = _read_table(
        run_command(
            [airflow, "tasks", "states-for-dag-run", DAG, newest, "--output", "json"], exported
        )
    )
    tasks: dict[str, float] = {}
    for row in rows:
        if row["start_date"] and row["end_date"]:
            spent = datetime.fromisoformat(row["end_date"]) - datetime.fromisoformat(
                row["start_date"]
            )
            tasks[row["task_id"]] = round(tasks.get(row["task_id"], 0.0) + spent.total_seconds(), 2)
    parts = {
        name: round(sum(tasks.get(task, 0.0) for task in members), 2)
        for name, members in PARTS.items()
    }
    return {"tasks": tasks, "parts": parts}


def _read_table(output: str) -> list[dict[str, Any]]:
    """Read the table that a command printed after its log lines."""
    rows: list[dict[str, Any]] = json.loads(
        next(line for line in reversed(output.splitlines()) if line.startswith("[{"))
    )
    return rows


def _parse_seconds(environment: dict[str, str]) -> dict[str, float]:
    """Import each DAG file in a process that has Airflow already: what the file itself costs, the
    least of five.
    """
    code = (
        "import sys, time, json, runpy; import airflow, airflow.sdk, airflow.models; t = "
        "time.perf_counter(); "
        "runpy.run_path(sys.argv[1]); print(json.dumps(time.perf_counter() - t)); assert 'torch' "
        "not in sys.modules"
    )
    exported = environment | {
        "AIRFLOW_HOME": environment["NIGHTSHIFT_STATE"] + "/parse",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    times = {}
    for path in sorted((ROOT / "dags").glob("*.py")):
        runs = [
            float(run_command([sys.executable, "-c", code, str(path)], exported).splitlines()[-1])
            for _ in range(5)
        ]
        times[path.stem] = round(min(runs), 3)
    return times


if __name__ == "__main__":
    print(write_record("night", measure()))
