"""One whole night on the local AWS: bootstrap, train, judge, promote, and a short summary.

The demo uses the real pipeline. It starts the local AWS, runs two DAGs as a person would, and reads
their results from the account. Each further run is the next night.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from laptop import airflow, local_account
from laptop.errors import StepFailedError
from laptop.places import ROOT
from laptop.report import render_stacks, stack_outcomes

EXPERIMENT = "cartpole_ppo"
#: Log lines of our own tasks are shown as progress. Airflow's lines are only in the log file.
PROGRESS = re.compile(r"\[(?:rl_airflow|nightshift)[\w.]*\]")


def run_demo(
    experiments: list[str], conf: str | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Run a night for each experiment.

    :param conf: JSON params of the retraining. None means the experiment's own.
    :return: the data of the summary that `render` shows.
    :raises StepFailedError: naming the step, the reason and the next command.
    """
    began = time.monotonic()
    seconds: dict[str, float] = {}
    answer = _timed(seconds, "local_aws", lambda: local_account.call("up"))
    say(
        f"local AWS at {answer['endpoint_url']} "
        f"({'started' if answer['started'] else 'found running'})"
    )
    stacks = _timed(seconds, "bootstrap", lambda: bootstrap(say))
    nights = {}
    for experiment in experiments:
        say(f"airflow dags test retrain_{experiment}")
        nights[experiment] = _timed(
            seconds,
            experiment,
            lambda name=experiment: retrain(name, conf, say),  # type: ignore[misc]
        )
    seconds["total"] = round(time.monotonic() - began, 2)
    return {
        "stacks": stacks,
        "nights": nights,
        "seconds": seconds,
        "endpoint_url": answer["endpoint_url"],
    }


def bootstrap(say: Callable[[str], None]) -> dict[str, str]:
    """Create or update the infrastructure.

    An administrator does it the first time, because the roles do not exist yet, and when a role has
    changed. Otherwise the Airflow worker does it.

    :return: stack → created, updated or unchanged.
    """
    before = _report(local_account.environment("administrator"), "stacks")
    try:
        _bootstrap_as(None if before else "administrator", say)
    except StepFailedError as error:
        if "let an administrator run" not in error.reason:
            raise
        say(f"  {error.reason}")
        _bootstrap_as("administrator", say)
    outcomes = stack_outcomes(before, _report(local_account.environment("administrator"), "stacks"))
    if bad := {
        name: outcome
        for name, outcome in outcomes.items()
        if outcome not in ("created", "updated", "unchanged")
    }:
        raise StepFailedError(
            "bootstrap",
            f"stacks are in a wrong state: {bad}",
            ".venv/bin/python -m infra_bootstrap plan --environment dev",
        )
    return outcomes


def _bootstrap_as(role: str | None, say: Callable[[str], None]) -> None:
    environment = airflow_environment(role)
    airflow.prepare(environment)
    say(f"airflow dags test bootstrap_infrastructure (as {role or 'the Airflow worker'})")
    conf = json.dumps(
        {"lambda_runtime": f"python{sys.version_info.major}.{sys.version_info.minor}"}
    )
    airflow.run_dag("bootstrap_infrastructure", environment, conf, _progress(say))


def retrain(experiment: str, conf: str | None, say: Callable[[str], None]) -> dict[str, Any]:
    """Run one retraining as the Airflow worker, and read its results."""
    airflow.run_dag(f"retrain_{experiment}", airflow_environment(None), conf, _progress(say))
    night = read_night(experiment)
    if night["instances_left"]:
        raise StepFailedError(
            "clean-up", f"instances left: {', '.join(night['instances_left'])}", "make clean"
        )
    return night


def read_night(experiment: str) -> dict[str, Any]:
    """Read the results of an experiment's newest run from the account."""
    night: dict[str, Any] = _report(local_account.environment(), "night", experiment)
    return night


def airflow_environment(role: str | None) -> dict[str, str]:
    """Give the variables for Airflow on this checkout, with the local AWS as a role.

    :param role: the role. None means the role of the Airflow worker.
    """
    return local_account.environment(role) | airflow.settings()


def render(result: Mapping[str, Any]) -> str:
    """Render the results of the nights as text, in the form that README shows."""
    lines = ["", render_stacks(result["stacks"])]
    for night in result["nights"].values():
        lines += ["", night["text"], f"instances left: {len(night['instances_left'])}"]
    spent = ", ".join(f"{name} {value:.0f} s" for name, value in result["seconds"].items())
    return "\n".join([*lines, f"took {spent} (on the local AWS: no claim about AWS)"])


def _report(environment: Mapping[str, str], *what: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "laptop.report", *what],
        cwd=ROOT,
        env=dict(environment),
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise StepFailedError(
            f"reading the {what[0]}", lines[-1], ".venv/bin/python -m local_aws status"
        )
    return json.loads(done.stdout)


def _timed(seconds: dict[str, float], name: str, work: Callable[[], Any]) -> Any:
    began = time.monotonic()
    try:
        return work()
    finally:
        seconds[name] = round(time.monotonic() - began, 2)


def _progress(say: Callable[[str], None]) -> Callable[[str], None]:
    """Pass on the log lines of our own tasks, without time stamp, module and repeats."""
    last = ""

    def on_line(line: str) -> None:
        nonlocal last
        plain = re.sub(r"\x1b\[[0-9;]*m", "", line)
        if PROGRESS.search(plain):
            text = re.sub(r"^\S+ \[\w+ *\] ", "", PROGRESS.split(plain)[0]).strip()
            if text and text != last:
                say(f"  {text}")
                last = text

    return on_line
