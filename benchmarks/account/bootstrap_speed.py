"""How long a bootstrap takes on the local AWS: a first one, and one with nothing to change.

    python -m benchmarks.account.bootstrap_speed

First it builds the artifacts into the cache and times that. Then, on a separate local AWS, it runs
`python -m infra_bootstrap deploy` as a user does: once as an administrator, then as Airflow's role.
Time on the clock depends on the other processes of the machine, so the record also holds the
processor time of the command and of the local AWS.
"""

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from laptop.figures.records import write_record
from laptop.places import ROOT

REPEATS = 5
RUNTIME = f"python{sys.version_info[0]}.{sys.version_info[1]}"
#: What is asked for, in seconds of wall time on an idle machine.
MOST_FIRST_S, MOST_UNCHANGED_S = 20.0, 5.0


def measure() -> dict[str, Any]:
    """Build, bootstrap, and bootstrap again."""
    with (
        tempfile.TemporaryDirectory(prefix="nightshift-bench-") as folder,
        local_aws(Path(folder)) as pid,
    ):
        administrator, worker = (
            variables(Path(folder), role) for role in ("administrator", "airflow-worker")
        )
        build, _ = timed(["build"], administrator, pid)
        first, outcomes = timed(["deploy"], administrator, pid)
        again = [timed(["deploy"], worker, pid) for _ in range(REPEATS)]
    times = [figures for figures, _ in again]
    return {
        "build_with_a_warm_cache": build,
        "first": {**first, "outcomes": outcomes, "most_wall_s": MOST_FIRST_S},
        "unchanged": {
            **{
                name: round(statistics.median(figures[name] for figures in times), 2)
                for name in times[0]
            },
            "runs": times,
            "outcomes": again[-1][1],
            "most_wall_s": MOST_UNCHANGED_S,
        },
        "note": "measured on the local AWS; no claim about AWS, where CloudFormation takes minutes",
    }


@contextlib.contextmanager
def local_aws(state: Path) -> Iterator[int]:
    """Run a local AWS. :return: the server's process id."""
    call([sys.executable, "-m", "local_aws", "up", "--state", str(state)])
    try:
        yield int(
            json.loads(
                call([sys.executable, "-m", "local_aws", "status", "--json", "--state", str(state)])
            )["pid"]
        )
    finally:
        call([sys.executable, "-m", "local_aws", "down", "--state", str(state)])


def variables(state: Path, role: str) -> dict[str, str]:
    """The environment variables that act as a role."""
    told = call(
        [sys.executable, "-m", "local_aws", "env", "--as", role, "--json", "--state", str(state)]
    )
    given: dict[str, str] = json.loads(told)["set"]
    return given


def timed(
    command: list[str], environment: dict[str, str], server: int
) -> tuple[dict[str, float], dict[str, str]]:
    """Run a command of infra_bootstrap.
    :return: its times in seconds, and what became of each stack.
    """
    before, served, began = (
        resource.getrusage(resource.RUSAGE_CHILDREN),
        processor_s(server),
        time.monotonic(),
    )
    answer = json.loads(
        call(
            [
                sys.executable,
                "-m",
                "infra_bootstrap",
                *command,
                "--environment",
                "dev",
                "--lambda-runtime",
                RUNTIME,
                "--json",
            ],
            environment,
        )
    )
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    times = {
        "wall_s": round(wall, 2),
        "command_cpu_s": round(used, 2),
        "local_aws_cpu_s": round(processor_s(server) - served, 2),
    }
    return times, {name: str(stack["outcome"]) for name, stack in answer.get("stacks", {}).items()}


def processor_s(pid: int) -> float:
    """Processor time of a process so far; 0 where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def call(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Run a command, and end with its last words if it fails."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=clean | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"error: {' '.join(command[1:5])} … failed:\n{done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    print(write_record("bootstrap-speed", measure()))
