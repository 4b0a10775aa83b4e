"""Airflow's REST API, for what Airflow offers tasks no call for.

The connection `nightshift_api` holds the API's address and a user (type HTTP: host with scheme and
port, login, password).
"""

import http.client
import json
import urllib.parse
import urllib.request
from typing import Any

from airflow.sdk import BaseHook, Context

CONNECTION = "nightshift_api"
TIMEOUT_S = 20.0
#: The events of a person's acts on runs and tasks: the names of the API's own functions. The log
#: also has the begin and end of every task, which are many.
ACTS = (
    "patch_dag_run",
    "bulk_dag_runs",
    "clear_dag_run",
    "clear_dag_runs",
    "patch_task_instance",
    "patch_task_group_instances",
    "bulk_task_instances",
    "post_clear_task_instances",
)
#: What may go wrong in a call. Another service may use the port.
API_ERRORS = (OSError, ValueError, KeyError, TypeError, http.client.HTTPException)


class NoApiError(Exception):
    """The connection does not exist."""


class AirflowApi:
    """The API, as the user of the connection.

    :raises NoApiError: if there is no connection.
    """

    def __init__(self) -> None:
        try:
            connection = BaseHook.get_connection(CONNECTION)
        except Exception:  # each place where Airflow looks raises another type
            raise NoApiError(f"no connection {CONNECTION}") from None
        host = connection.host or ""
        base = host.rstrip("/") if "://" in host else f"{connection.schema or 'http'}://{host}"
        self.base = base + (f":{connection.port}" if connection.port else "")
        self.user = {"username": connection.login, "password": connection.password}
        self.token = ""

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call the API. :raises API_ERRORS: if it does not answer as Airflow does."""
        if not self.token:
            self.token = str(self._call("POST", "/auth/token", self.user)["access_token"])
        return self._call(method, path, body)

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        url = self.base + path
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{CONNECTION}: {url} is not an HTTP address")
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {self.token}"} if self.token else {}
        )
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310  checked above
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            answered: dict[str, Any] = json.load(answer)
        return answered


def path_of_run(context: Context, query: str = "") -> str:
    """The path of the run in the API."""
    run = context["dag_run"]
    run_id = urllib.parse.quote(run.run_id, safe="")
    return f"/api/v2/dags/{run.dag_id}/dagRuns/{run_id}{query}"


def events_of_run(api: AirflowApi, context: Context) -> list[dict[str, Any]]:
    """Return what people did to the run and its tasks, newest first, from Airflow's audit log."""
    run = context["dag_run"]
    wanted = {"dag_id": run.dag_id, "run_id": run.run_id, "order_by": "-when", "limit": 100}
    query = urllib.parse.urlencode({**wanted, "included_events": ACTS}, doseq=True)
    events: list[dict[str, Any]] = api.call("GET", f"/api/v2/eventLogs?{query}")["event_logs"]
    return events
