"""Dated records of benchmarks: the result, the machine and the commit."""

import importlib.metadata
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from laptop.places import ROOT

FOLDER = ROOT / "benchmarks" / "records"
PACKAGES = (
    "apache-airflow",
    "torch",
    "stable-baselines3",
    "gymnasium",
    "numpy",
    "onnxruntime",
    "boto3",
)


def machine_facts() -> dict[str, Any]:
    """Return what a reader needs to compare records: processor, cores, load, versions, commit."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def taken(**facts: Any) -> dict[str, Any]:
    """Return the time, commit and load of a measurement.

    :param facts: further facts about it, such as `rounds`.
    """
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "load": [round(value, 2) for value in os.getloadavg()],
        **facts,
    }


def todays_cases(name: str, *, whole: bool) -> dict[str, dict[str, Any]]:
    """Return the cases of today's record, so that you can measure parts one after another.

    :param whole: all cases are measured again, so none is kept.
    :return: as :func:`cases_of`.
    """
    record = _todays(name)
    return {} if whole or record is None else cases_of(record)


def newest_cases(name: str) -> dict[str, dict[str, Any]]:
    """Return the cases of the newest record of that name. Without a record there are none."""
    found = max(FOLDER.glob(f"*-{name}.json"), default=None)
    return {} if found is None else cases_of(json.loads(found.read_text()))


def cases_of(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a record's cases by name, each with the facts of :func:`taken` by part.

    An older record has these facts only once. Then each case gets the same facts.
    """
    counts = {key: record["result"][key] for key in ("rounds", "seeds") if key in record["result"]}
    known = {
        "at": record["measured_at"],
        "commit": record["machine"]["commit"],
        "load": record["machine"]["load"],
        **counts,
    }
    return {
        case: {"taken": {"all": known}} | facts for case, facts in record["result"]["cases"].items()
    }


def earlier_runs(name: str) -> list[dict[str, Any]]:
    """Return the runs in today's record, newest last, so that a new run can keep them."""
    record = _todays(name)
    if record is None:
        return []
    result = dict(record["result"])
    earlier: list[dict[str, Any]] = result.pop("earlier", [])
    machine = record["machine"]
    return [
        *earlier,
        {
            "measured_at": record["measured_at"],
            "commit": machine["commit"],
            "load": machine["load"],
            "result": result,
        },
    ]


def counted(record: dict[str, Any], what: str) -> int:
    """Return the smallest number of rounds or seeds of all cases of a record."""
    result = record["result"]
    counts: list[int] = [
        part[what]
        for case in result["cases"].values()
        for part in case.get("taken", {}).values()
        if what in part
    ]
    return min(counts, default=int(result.get(what, 0)))


def loads(record: dict[str, Any]) -> str:
    """Return the machine's load during the measurements: one number, or the lowest and highest."""
    found = [
        part["load"][0]
        for case in record["result"]["cases"].values()
        for part in case.get("taken", {}).values()
    ]
    low, high = (
        min(found, default=record["machine"]["load"][0]),
        max(found, default=record["machine"]["load"][0]),
    )
    return f"{low}" if low == high else f"{low} to {high}"


def _todays(name: str) -> Any:
    found = FOLDER / f"{datetime.now(UTC):%Y-%m-%d}-{name}.json"
    return json.loads(found.read_text()) if found.exists() else None


def write_record(name: str, result: Any) -> Path:
    """Write a result with its date and machine. :return: the file, which must be committed."""
    now = datetime.now(UTC)
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{now:%Y-%m-%d}-{name}.json"
    record = {
        "name": name,
        "measured_at": now.isoformat(timespec="seconds"),
        "machine": machine_facts(),
        "result": result,
    }
    path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    return path


def _processor() -> str:
    for line in (
        Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ()
    ):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + (
        "+dirty" if git("status", "--porcelain", "--untracked-files=no") else ""
    )
