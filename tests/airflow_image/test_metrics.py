"""Airflow sends its metrics as docker-compose.yaml says, with the names that the page shows."""

import contextlib
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import yaml

from laptop.stack.compose_file import read_services
from laptop.stack.programs import airflow_python
from tests.conftest import ROOT

#: What the scheduler does at its start and in its loop (airflow/jobs/scheduler_job_runner.py).
SEND = """
from airflow.observability import stats
from airflow.observability.metrics import stats_utils
stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)
stats.incr("scheduler_heartbeat", 1, 1)
stats.gauge("executor.queued_tasks", 3, tags={"executor_class_name": "CeleryExecutor"})
"""


def shown_names() -> set[str]:
    """Return the metrics that docs/team.md names."""
    page = (ROOT / "docs/team.md").read_text()
    section = page.partition("## Metrics")[2].partition("\n## ")[0]
    return set(re.findall(r"`(airflow_\w+)`", section))


def prometheus_name(line: str) -> str:
    """Return the name that statsd-exporter gives to a line of StatsD: `_` for each dot.

    Source: https://github.com/prometheus/statsd_exporter#metric-mapping-and-configuration
    """
    return line.partition(":")[0].replace(".", "_")


def received(listener: socket.socket) -> Iterator[str]:
    """Yield the lines that have arrived. On the loopback interface none is on its way."""
    with contextlib.suppress(BlockingIOError):
        while True:
            yield from listener.recv(2**16).decode().splitlines()


def test_airflow_sends_metrics_with_the_settings_of_compose(tmp_path: Path) -> None:
    """A scheduler's Airflow sends them over UDP. It would be silent without the package statsd."""
    variables = dict.fromkeys(re.findall(r"\$\{(\w+):", (ROOT / "docker-compose.yaml").read_text()))
    services = read_services(
        ROOT / "docker-compose.yaml", dict.fromkeys(variables, "x"), ROOT / ".env"
    )
    settings = {
        name: value
        for name, value in services["airflow-scheduler"].environment.items()
        if name.startswith("AIRFLOW__METRICS__")
    }
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        subprocess.run(
            [airflow_python(), "-c", SEND],
            env=settings
            | {
                "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
                "AIRFLOW__METRICS__STATSD_PORT": str(listener.getsockname()[1]),
                "AIRFLOW_HOME": str(tmp_path),
            },
            check=True,
            capture_output=True,
        )
        lines = list(received(listener))
    assert "airflow.scheduler_heartbeat:1|c" in lines
    assert {prometheus_name(line) for line in lines} >= shown_names()


def test_the_page_shows_metrics_that_airflow_has() -> None:
    """Airflow's own table of its metrics has each name; a new Airflow may rename one."""
    (table,) = airflow_python().parent.parent.glob(
        "lib/python*/site-packages/airflow/_shared/observability/metrics/metrics_template.yaml"
    )
    known = {
        prometheus_name(f"airflow.{metric['name']}")
        for metric in yaml.safe_load(table.read_text())["metrics"]
    }
    assert shown_names()
    assert shown_names() <= known
