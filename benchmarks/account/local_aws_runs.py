"""A bootstrapped local AWS for a measurement, and a process that acts as Airflow's worker."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from laptop.places import ROOT

INSIDE = "--inside"


def measure_inside(module: str, *arguments: str) -> Any:
    """Run `python -m <module> --inside …` as the Airflow worker on a fresh, bootstrapped local AWS.

    :return: the JSON of its last line of output. Progress belongs on its stderr.
    """
    with state_folder() as environment:
        run_command([sys.executable, "-m", "local_aws", "up"], environment)
        runtime = f"python{sys.version_info.major}.{sys.version_info.minor}"
        run_command(
            [
                sys.executable,
                "-m",
                "infra_bootstrap",
                "deploy",
                "--environment",
                "dev",
                "--lambda-runtime",
                runtime,
            ],
            as_role("administrator", environment),
        )
        worker = as_role(None, environment)
        run_command(
            [
                sys.executable,
                "-c",
                "import os; from laptop import airflow; airflow.prepare(os.environ)",
            ],
            worker,
        )
        done = subprocess.run(
            [sys.executable, "-m", module, INSIDE, *arguments],
            cwd=ROOT,
            env=worker,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
        )
        if done.returncode:
            sys.exit(f"error: {module} failed inside the local AWS, see above")
        return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def state_folder() -> Iterator[dict[str, str]]:
    """Give a separate state folder, so that the developer's stays as it is.

    Afterwards, stop its local AWS and remove it.
    """
    with tempfile.TemporaryDirectory(prefix="nightshift-bench-") as folder:
        environment = dict(os.environ) | {"NIGHTSHIFT_STATE": folder}
        try:
            yield environment
        finally:
            subprocess.run(
                [sys.executable, "-m", "laptop", "clean"], cwd=ROOT, env=environment, check=False
            )


def as_role(role: str | None, environment: dict[str, str]) -> dict[str, str]:
    """The environment of a role, with Airflow's settings."""
    code = (
        "import json, sys; from laptop.demo import airflow_environment; "
        "print(json.dumps(airflow_environment(sys.argv[1] or None)))"
    )
    answered: dict[str, str] = json.loads(
        run_command([sys.executable, "-c", code, role or ""], environment).splitlines()[-1]
    )
    return answered


def run_command(command: list[str], environment: dict[str, str]) -> str:
    """Run a command that must succeed; if it fails, exit with the end of its stderr.

    :return: its stdout.
    """
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"error: {' '.join(command[:4])} … failed:\n{done.stderr[-2000:]}")
    return done.stdout


def local_aws(*arguments: str) -> dict[str, Any]:
    """Run a command of the local AWS that this process uses, and read its JSON."""
    answered: dict[str, Any] = json.loads(
        run_command([sys.executable, "-m", "local_aws", *arguments, "--json"], dict(os.environ))
    )
    return answered


def say(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)
