"""Airflow's own triggerer with many deferred tasks.

A thousand workers would take hours to defer them. So this module makes a DAG with one mapped task,
triggers a run through Airflow's command line, and writes the state of a deferred task for each
instance into Airflow's database. From there on, only Airflow's own code runs.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.account.local_aws_runs import run_command
from laptop.places import ROOT

#: One mapped task, as the tasks that await trials are: for each trigger that it takes on, Airflow's
#: triggerer reads the whole DAG, so a thousand tasks of their own would cost it a thousand times a
#: thousand.
DAG = """
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG("load_{count}", schedule=None):
    BashOperator.partial(task_id="await").expand(bash_command=["true"] * {count})
"""


@contextmanager
def deferred(triggers: list[Any]) -> Iterator[None]:
    """Let as many tasks wait on triggers as there are; they are gone from the database
    afterwards.
    """
    dag_id = f"load_{len(triggers)}"
    airflow = str(Path(sys.executable).parent / "airflow")
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ) | {"AIRFLOW__CORE__DAGS_FOLDER": folder}
        Path(folder, "load.py").write_text(DAG.format(count=len(triggers)))
        Path(folder, "triggers.json").write_text(json.dumps([one.serialize() for one in triggers]))
        run_command([airflow, "dags", "reserialize"], environment)
        run_command([airflow, "dags", "unpause", dag_id], environment)
        run_command([airflow, "dags", "trigger", dag_id, "--run-id", "load"], environment)
        run_command(
            [
                sys.executable,
                "-m",
                "benchmarks.machines.airflow_triggerer",
                dag_id,
                str(Path(folder, "triggers.json")),
            ],
            environment,
        )
        try:
            yield
        finally:
            run_command([airflow, "dags", "delete", dag_id, "--yes"], environment)


def put_off(dag_id: str, triggers: list[tuple[str, dict[str, Any]]]) -> None:
    """Write the state of a deferred task for each task of a run."""
    from airflow.models import TaskInstance, Trigger
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState
    from sqlalchemy import select

    with create_session() as session:
        instances = session.scalars(select(TaskInstance).where(TaskInstance.dag_id == dag_id)).all()
        if len(instances) != len(triggers):
            sys.exit(f"error: {len(instances)} tasks for {len(triggers)} triggers")
        for instance, (classpath, arguments) in zip(instances, triggers, strict=True):
            instance.trigger = Trigger(classpath=classpath, kwargs=arguments)
            instance.state, instance.next_method, instance.try_number = (
                TaskInstanceState.DEFERRED,
                "execute_complete",
                1,
            )
            instance.start_date = instance.dag_run.run_after
            instance.dag_run.state = DagRunState.RUNNING


class Triggerer:
    """A running `airflow triggerer`: the process that talks to the database, and the one below that
    runs the triggers.
    """

    def __init__(self, pid: int) -> None:
        self.process = psutil.Process(pid)

    def cpu_s(self) -> float:
        """CPU seconds of all its processes."""
        return float(sum(one.cpu_times().user + one.cpu_times().system for one in self._all()))

    def memory_mib(self) -> int:
        """Resident memory of all its processes; shared memory counts twice."""
        mib: int = round(sum(one.memory_info().rss for one in self._all()) / 2**20)
        return mib

    def _all(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


@contextmanager
def running_triggerer() -> Iterator[Triggerer]:
    """Run `airflow triggerer` on this process's Airflow, and end it afterwards."""
    airflow = str(Path(sys.executable).parent / "airflow")
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            [airflow, "triggerer", "--skip-serve-logs"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            yield Triggerer(process.pid)
        finally:
            ended = process.poll()
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
            if ended is not None:
                log.seek(0)
                sys.exit(
                    "error: airflow triggerer ended with "
                    f"{ended}:\n{log.read().decode(errors='replace')[-2000:]}"
                )


if __name__ == "__main__":
    put_off(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))
