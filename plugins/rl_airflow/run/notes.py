"""Write a run's note, which Airflow shows in its list of runs.

Airflow offers tasks no call for this, so the code uses the REST API. The connection
`nightshift_api` holds the API's address and a user (type HTTP: host with scheme and port, login,
password). Without the connection no note is written, and no task fails.
"""

import http.client
import json
import logging
import urllib.parse
import urllib.request
from typing import Any

from airflow.sdk import BaseHook, Context

from rl_airflow.errors import first_line

log = logging.getLogger(__name__)

CONNECTION = "nightshift_api"
#: Airflow's limit on a note.
MOST_CHARACTERS = 1000
TIMEOUT_S = 20.0


def write_note(context: Context, text: str) -> bool:
    """Write the note of the run.

    :return: whether the note was written. An error is only logged.
    """
    try:
        connection = BaseHook.get_connection(CONNECTION)
    except Exception:  # each place where Airflow looks raises another type
        log.info("no connection %s, so the run gets no note", CONNECTION)
        return False
    run = context["dag_run"]
    host = connection.host or ""
    base = host.rstrip("/") if "://" in host else f"{connection.schema or 'http'}://{host}"
    base += f":{connection.port}" if connection.port else ""
    run_id = urllib.parse.quote(run.run_id, safe="")
    path = f"/api/v2/dags/{run.dag_id}/dagRuns/{run_id}?update_mask=note"
    try:
        token = _call(
            base + "/auth/token",
            "POST",
            {"username": connection.login, "password": connection.password},
        )["access_token"]
        _call(base + path, "PATCH", {"note": text[:MOST_CHARACTERS]}, token)
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as error:
        log.warning("the run's note was not written: %s", first_line(error))
        return False
    return True


def _call(url: str, method: str, body: dict[str, Any], token: str = "") -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{CONNECTION}: {url} is not an HTTP address")
    headers = {"Content-Type": "application/json"} | (
        {"Authorization": f"Bearer {token}"} if token else {}
    )
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)  # noqa: S310  checked above
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
        answered: dict[str, Any] = json.load(answer)
    return answered
