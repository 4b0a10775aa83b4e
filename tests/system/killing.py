"""Kill processes of a real Airflow at random instants, and restart those that stay dead.

A task has three processes: the scheduler, its child the worker, which supervises the task and
calls the API for it, and the worker's child, which runs the task. Each can be killed alone. A task
whose worker was killed continues, but Airflow hears nothing of it.
"""

import contextlib
import os
import random
import signal
import subprocess
import time
from typing import Any

import psutil

from laptop import airflow
from laptop.places import log_folder
from tests.conftest import ROOT

#: Airflow's timeouts for dead processes (minutes by default): short enough for a test, long enough
#: for a busy machine.
IMPATIENT = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
}
#: What can be struck while a task works: its process, its worker (also by a stop signal), and the
#: scheduler with all workers.
AT_WORK = ("worker", "runner", "scheduler", "stopped worker", "stopped runner")
#: What can be struck while the task is deferred.
WAITING = ("clear", "triggerer", "scheduler")


def plan_strikes(seed: int) -> list[tuple[str, str]]:
    """Plan the strikes of a run as (task, kind): one while it launches, the others while it waits.

    Every seed except 0 also strikes the awaiting task's own processes while they work. Airflow
    notices a dead worker only after half a minute.

    >>> plan_strikes(0)[0], {kind for _, kind in plan_strikes(0)} >= set(WAITING)
    (('launch', 'worker'), True)
    """
    rng = random.Random(seed)
    strikes = [
        ("launch", AT_WORK[seed % len(AT_WORK)]),
        *(("await", kind) for kind in rng.sample(WAITING, len(WAITING))),
    ]
    return strikes + ([("await", rng.choice(AT_WORK))] if seed else [])


class AirflowProcesses:
    """The processes of the Airflow in the state folder, including replacements of killed ones."""

    def __init__(self) -> None:
        self.home = airflow.settings()["AIRFLOW_HOME"]
        self.started: list[subprocess.Popen[bytes]] = []

    def component(self, name: str) -> psutil.Process:
        """Return the process of `airflow <name>`."""
        for one in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if (
                    _title(one).endswith(f"airflow {name}")
                    and one.environ().get("AIRFLOW_HOME") == self.home
                ):
                    return one
        raise LookupError(f"no `airflow {name}` runs in {self.home}")

    def worker_of(self, task_instance_id: str) -> psutil.Process | None:
        """Return the worker that supervises a task."""
        return self._titled(f"airflow worker -- LocalExecutor: {task_instance_id}")

    def runner_of(self, task_instance_id: str) -> psutil.Process | None:
        """Return a task's own process."""
        return self._titled(f"airflow worker -- {task_instance_id}")

    def _titled(self, title: str) -> psutil.Process | None:
        below = self.component("scheduler").children(recursive=True)
        return next((one for one in below if _title(one) == title), None)

    def replace(self, name: str) -> None:
        """Kill `airflow <name>` with its children and start it again with the same command."""
        killed = self.component(name)
        command, environment, all_of_it = (
            killed.cmdline(),
            killed.environ(),
            [killed, *killed.children(recursive=True)],
        )
        for one in all_of_it:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(all_of_it, timeout=10)
        with (log_folder() / f"airflow-{name}-again.log").open("ab") as log:
            self.started.append(
                subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def end(self) -> None:
        """End the replacements; `airflow standalone` ends the rest."""
        for one in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGKILL)
            one.wait()


class StruckRun:
    """A run of one trial that is struck at random instants of a seed.

    :param api: the REST API, as in test_ui
    """

    def __init__(
        self, api: Any, processes: AirflowProcesses, dag_id: str, run_id: str, rng: random.Random
    ) -> None:
        self.api, self.processes, self.run_id, self.rng = api, processes, run_id, rng
        self.dag = f"/api/v2/dags/{dag_id}"
        self.place = f"{self.dag}/dagRuns/{run_id}"
        self.hits: list[tuple[str, str]] = []
        self.missed: list[tuple[str, str]] = []

    def strike(self, task_id: str, kind: str) -> None:
        """Strike while the trial's task works or waits; retry a miss until the task is over.

        A strike that never hits is recorded in `missed`.
        """
        states = (
            ("running",)
            if kind in AT_WORK and kind not in WAITING
            else ("running", "deferred")
            if kind in AT_WORK
            else ("deferred",)
        )
        while (instance := self._await(task_id, states)) is not None:
            time.sleep(self.rng.uniform(0, 2.0))
            if self._hit(instance, kind):
                self.hits.append((task_id, kind))
                return
        self.missed.append((task_id, kind))

    def _hit(self, instance: dict[str, Any], kind: str) -> bool:
        if kind == "clear":
            return self._clear(instance)
        if kind in ("scheduler", "triggerer"):
            self.processes.replace(kind)
            return True
        found = (self.processes.runner_of if kind.endswith("runner") else self.processes.worker_of)(
            instance["id"]
        )
        with contextlib.suppress(psutil.NoSuchProcess):
            if found is not None:
                found.send_signal(signal.SIGTERM if kind.startswith("stopped") else signal.SIGKILL)
                return True
        return False

    def _clear(self, instance: dict[str, Any]) -> bool:
        """Clear the task and its downstream tasks, as the UI does."""
        cleared = self.api.insist(
            "POST",
            f"{self.dag}/clearTaskInstances",
            {
                "dry_run": False,
                "dag_run_id": self.run_id,
                "task_ids": [[instance["task_id"], instance["map_index"]]],
                "include_downstream": True,
                "only_failed": False,
            },
        )
        return bool(cleared["total_entries"])

    def _await(self, task_id: str, states: tuple[str, ...]) -> dict[str, Any] | None:
        """Wait until a task is in a state.

        :return: the task's instance; None if the task or run is over
        """
        while True:
            found = self._instance(task_id)
            state = found["state"] if found is not None else None
            if state in states:
                return found
            if state in ("success", "failed") or self.state() in ("success", "failed"):
                return None
            time.sleep(0.2)

    def _instance(self, task_id: str) -> dict[str, Any] | None:
        found = self.api.call("GET", f"{self.place}/taskInstances?limit=100")["task_instances"]
        return next((one for one in found if one["task_id"] == task_id), None)

    def log(self, task_id: str) -> str:
        """Return the log of the trial's task in all its tries, in worker and triggerer."""
        found = self._instance(task_id) or {}
        return "\n".join(
            str(
                self.api.call(
                    "GET",
                    f"{self.place}/taskInstances/{task_id}/logs/{number}"
                    f"?map_index={found['map_index']}&full_content=true",
                )
            )
            for number in range(1, found["try_number"] + 1)
        )

    def links(self, task_id: str) -> dict[str, str]:
        """Return the extra links of the trial's task by name."""
        found: dict[str, str] = self.api.call(
            "GET", f"{self.place}/taskInstances/{task_id}/links?map_index=0"
        )["extra_links"]
        return found

    def state(self) -> str:
        """Return the run's state."""
        return str(self.api.call("GET", self.place)["state"])


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""
