"""Airflow's REST API as a logged-in user of its UI."""

import contextlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from laptop import airflow
from tests.system.projects import MISSED

DAGS = {
    "bootstrap_infrastructure",
    "retrain_cartpole_ppo",
    "retrain_lunarlander_ppo",
    "evaluate_policy",
    "rollback_policy",
    "reap_orphaned_instances",
    "destroy_infrastructure",
    "import_policy",
    "on_new_champion",
    f"retrain_{MISSED}",
}
EXPERIMENT, NIGHT = "cartpole_ppo", "retrain_cartpole_ppo"
#: A training that lasts longer than the test.
ENDLESS = {"trials": 1, "total_timesteps": 10**9, "max_hours": 1, "budget_usd": 100}


class Api:
    """The REST API as a logged-in user."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self.token = ""
        self.token = self.call("POST", "/auth/token", {"username": user, "password": password})[
            "access_token"
        ]

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call once; a GET is repeated as in :meth:`insist`."""
        if method == "GET":
            return self.insist(method, path, body)
        return self._call(method, path, body)

    def insist(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call again while Airflow answers 500, because its SQLite is locked on a busy machine."""
        for _ in range(10):
            try:
                return self._call(method, path, body)
            except urllib.error.HTTPError as refused:
                if refused.code != 500:
                    raise
                time.sleep(1)
        return self._call(method, path, body)

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        request = urllib.request.Request(
            self.url + path,
            None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            answered: dict[str, Any] = json.loads(answer.read() or b"{}")
        return answered

    def wait_for_dags(self, timeout_s: float = 90) -> set[str]:
        end = time.monotonic() + timeout_s
        while True:
            found = {dag["dag_id"] for dag in self.call("GET", "/api/v2/dags?limit=100")["dags"]}
            if found >= DAGS or time.monotonic() > end:
                return found
            time.sleep(1)

    def trigger(self, dag_id: str, conf: dict[str, Any], run_id: str | None = None) -> str:
        """Trigger a DAG as the form does.

        :return: the run's id
        """
        self.wait_for_dags()
        self.insist("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})
        body = {"logical_date": None, "conf": conf} | ({"dag_run_id": run_id} if run_id else {})
        return str(self.insist("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def answer_again(self, run_id: str, answer: str) -> str:
        """Clear the approval with its downstream tasks and answer it.

        :return: the run's state
        """
        self.ask_again(run_id)
        return self.answer(NIGHT, run_id, "approve", lambda options: answer)

    def ask_again(self, run_id: str) -> None:
        """Clear the approval with its downstream tasks."""
        self.call(
            "POST",
            f"/api/v2/dags/{NIGHT}/clearTaskInstances",
            {
                "dry_run": False,
                "dag_run_id": run_id,
                "task_ids": ["approve"],
                "include_downstream": True,
                "only_failed": False,
            },
        )

    def answer(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        choose: Callable[[list[str]], str],
        timeout_s: float = 420,
    ) -> str:
        """Answer as a person would: a moment after each question.

        Airflow loses an answer that comes before the task has paused. It may also fail a task that
        is resumed at once, and the retry asks again.

        :param choose: returns the chosen options, given the offered ones

        :return: the run's state
        """
        run = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"
        end = time.monotonic() + timeout_s
        while (state := self.call("GET", run)["state"]) not in (
            "success",
            "failed",
        ) and time.monotonic() < end:
            if self.call("GET", f"{run}/taskInstances/{task_id}")["state"] in (
                "awaiting_input",
                "deferred",
            ):
                time.sleep(2)
                with contextlib.suppress(
                    urllib.error.HTTPError
                ):  # already answered, perhaps by the timeout
                    place = f"{run}/taskInstances/{task_id}/-1/hitlDetails"
                    question = self.call("GET", place)
                    assert "No answer within" in question["body"]
                    self.call(
                        "PATCH",
                        place,
                        {"chosen_options": [choose(question["options"])], "params_input": {}},
                    )
            time.sleep(1)
        return str(state)

    def xcom(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Return a task's result."""
        return self.call(
            "GET",
            f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
            "?deserialize=true",
        )["value"]

    def log(self, dag_id: str, run_id: str, task_id: str) -> str:
        """Return the log of a task's first try."""
        return json.dumps(
            self.call(
                "GET",
                f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/1?full_content=true",
            ),
            ensure_ascii=False,
        )

    def events_of_champion(self) -> list[dict[str, Any]]:
        """Return the asset events for the consumers, oldest first."""
        events = self.call("GET", "/api/v2/assets/events?limit=100&order_by=timestamp")[
            "asset_events"
        ]
        return [event["extra"] for event in events if event["name"] == f"champion_{EXPERIMENT}"]

    def wait_for_event(self, move: str) -> dict[str, Any]:
        """Wait for the champion's newest event of this move, which may follow the run's end."""
        assert airflow.wait_for(
            lambda: [event["move"] for event in self.events_of_champion()][-1:] == [move], 60
        )
        return self.events_of_champion()[-1]

    def runs(self, dag_id: str) -> int:
        """Count the runs of a DAG."""
        return int(self.call("GET", f"/api/v2/dags/{dag_id}/dagRuns")["total_entries"])

    def wait_for_run(self, dag_id: str, run_id: str, timeout_s: float) -> str:
        end = time.monotonic() + timeout_s
        while True:
            state = self.call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"]
            if state in ("success", "failed") or time.monotonic() > end:
                return str(state)
            time.sleep(2)

    def begin_endless(self, dag_id: str) -> str:
        """Trigger a training that runs until a person ends it."""
        self.insist("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})
        run = self.insist(
            "POST", f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": ENDLESS}
        )
        return str(run["dag_run_id"])

    def wait_until_deferred(self, dag_id: str, run_id: str, timeout_s: float = 300) -> str:
        """Wait until the task that awaits the trial is deferred.

        :return: its state
        """
        end = time.monotonic() + timeout_s
        while True:
            found = self.call(
                "GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit=100"
            )["task_instances"]
            states = {one["task_id"]: one["state"] for one in found}
            if (
                states.get("await") == "deferred"
                or "failed" in states.values()
                or time.monotonic() > end
            ):
                return str(states.get("await"))
            time.sleep(1)
