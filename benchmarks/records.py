"""A dated record: what was measured, on which machine, from which commit."""

import importlib.metadata
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "benchmarks" / "records"
PACKAGES = ("apache-airflow", "torch", "stable-baselines3", "gymnasium", "numpy", "onnxruntime", "boto3")


def machine_facts() -> dict[str, Any]:
    """What a reader must know to compare: processor, cores, load, versions, commit."""
    return {
        "processor": _processor(), "cores": os.cpu_count(), "load": [round(value, 2) for value in os.getloadavg()],
        "system": f"{platform.system()} {platform.machine()}", "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES}, "commit": _commit()}


def todays_result(name: str) -> Any:
    """What today's record of that name holds, so that parts may be measured one after another; None if there is none."""
    found = FOLDER / f"{datetime.now(UTC):%Y-%m-%d}-{name}.json"
    return json.loads(found.read_text())["result"] if found.exists() else None


def write_record(name: str, result: Any) -> Path:
    """Write a result with its date and machine. :return: the file, to be put under version control."""
    now = datetime.now(UTC)
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{now:%Y-%m-%d}-{name}.json"
    record = {"name": name, "measured_at": now.isoformat(timespec="seconds"), "machine": machine_facts(), "result": result}
    path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    return path


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
