"""Calls of an MLflow tracking server, through its REST API.

Source: https://mlflow.org/docs/latest/rest-api.html
"""

import base64
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from infra_bootstrap.errors import BadInputError, TrackingServerError

#: The most that one call of `log-batch` takes.
MOST_METRICS, MOST_PARAMS, MOST_TAGS = 1000, 100, 100
#: Lengths of texts that every server since 2.0 takes.
LONGEST_PARAM, LONGEST_TAG = 500, 5000
TIMEOUT_S = 60
#: Statuses of an answer that has nothing to do with the request.
REFUSED, MISSING = (401, 403), 404
MISSING_CODE = "RESOURCE_DOES_NOT_EXIST"
#: The scheme of artifacts that the tracking server stores itself.
SERVED = "mlflow-artifacts"

Json = dict[str, Any]


class TrackingServer:
    """A tracking server.

    :param address: its URL, such as `http://127.0.0.1:5000`.
    :param authorization: the header of this name; empty for none.
    """

    def __init__(self, address: str, authorization: str = "") -> None:
        self.address, self._authorization = address.rstrip("/"), authorization

    @classmethod
    def from_variables(cls, variables: Mapping[str, str]) -> "TrackingServer":
        """Open the server that MLflow's own variables name.

        :raises BadInputError: if they name none.
        """
        address = variables.get("MLFLOW_TRACKING_URI", "")
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise BadInputError(
                "--to mlflow: set MLFLOW_TRACKING_URI to the address of a tracking server, such as "
                "http://127.0.0.1:5000; give a name and a password in MLFLOW_TRACKING_USERNAME "
                "and MLFLOW_TRACKING_PASSWORD"
            )
        name, token = (
            variables.get("MLFLOW_TRACKING_USERNAME"),
            variables.get("MLFLOW_TRACKING_TOKEN"),
        )
        if name:
            pair = f"{name}:{variables.get('MLFLOW_TRACKING_PASSWORD', '')}"
            return cls(address, f"Basic {base64.b64encode(pair.encode()).decode()}")
        return cls(address, f"Bearer {token}" if token else "")

    def ensure_experiment(self, name: str) -> str:
        """Make an experiment unless it exists. :return: its id."""
        found = self._find("mlflow/experiments/get-by-name", {"experiment_name": name})
        if found is None:
            return str(self._post("mlflow/experiments/create", {"name": name})["experiment_id"])
        if found["experiment"].get("lifecycle_stage", "active") != "active":
            raise TrackingServerError(
                self.address,
                f"has deleted the experiment {name}: restore it there (`mlflow experiments "
                f"restore --experiment-id {found['experiment']['experiment_id']}`)",
            )
        return str(found["experiment"]["experiment_id"])

    def search_runs(self, experiment_id: str, filter_: str) -> list[Json]:
        """Find the runs of an experiment that were not deleted."""
        request: Json = {
            "experiment_ids": [experiment_id],
            "filter": filter_,
            "run_view_type": "ACTIVE_ONLY",
            "max_results": 1000,
        }
        found: list[Json] = []
        while True:
            answer = self._post("mlflow/runs/search", request)
            found += answer.get("runs", [])
            if not answer.get("next_page_token"):
                return found
            request["page_token"] = answer["next_page_token"]

    def create_run(
        self, experiment_id: str, name: str, start_ms: int, tags: Mapping[str, str]
    ) -> Json:
        """Begin a run."""
        request = {
            "experiment_id": experiment_id,
            "run_name": name,
            "start_time": start_ms,
            "tags": as_pairs(tags),
        }
        return dict(self._post("mlflow/runs/create", request)["run"])

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Json] = (),
        params: Sequence[Json] = (),
        tags: Sequence[Json] = (),
    ) -> None:
        """Add values to a run, in one call."""
        request = {
            "run_id": run_id,
            "metrics": list(metrics),
            "params": list(params),
            "tags": list(tags),
        }
        self._post("mlflow/runs/log-batch", request)

    def end_run(self, run_id: str, status: str, end_ms: int) -> None:
        """Set the state of a run."""
        self._post("mlflow/runs/update", {"run_id": run_id, "status": status, "end_time": end_ms})

    def read_steps(self, run_id: str, metric: str) -> set[int]:
        """Read the steps at which a run has a metric."""
        query, steps = {"run_id": run_id, "metric_key": metric, "max_results": "25000"}, set()
        while True:
            answer = self._find("mlflow/metrics/get-history", query) or {}
            steps |= {int(one.get("step", 0)) for one in answer.get("metrics", [])}
            if not answer.get("next_page_token"):
                return steps
            query["page_token"] = answer["next_page_token"]

    def put_artifact(self, artifact_uri: str, name: str, data: bytes) -> bool:
        """Store a file of a run. :return: False if this server does not serve artifacts."""
        place = urlsplit(artifact_uri)
        if place.scheme != SERVED:
            return False
        path = quote(f"{place.path.strip('/')}/{name}")
        headers = {"Content-Type": "application/octet-stream"}
        self._send("PUT", f"mlflow-artifacts/artifacts/{path}", data, headers)
        return True

    def _find(self, path: str, query: Mapping[str, str]) -> Json | None:
        try:
            return self._answer(self._send("GET", f"{path}?{urlencode(query)}"))
        except _NoSuchThingError:
            return None

    def _post(self, path: str, request: Json) -> Json:
        headers = {"Content-Type": "application/json"}
        return self._answer(self._send("POST", path, json.dumps(request).encode(), headers))

    def _answer(self, data: bytes) -> Json:
        try:
            answer = json.loads(data)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise TrackingServerError(
                self.address, "does not answer as MLflow does: correct MLFLOW_TRACKING_URI"
            )
        return answer

    def _send(
        self,
        method: str,
        path: str,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        request = urllib.request.Request(  # noqa: S310 (http or https, see from_variables)
            f"{self.address}/api/2.0/{path}", data, dict(headers or {}), method=method
        )
        if self._authorization:
            request.add_unredirected_header("Authorization", self._authorization)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 (ditto)
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise self._refusal(error, path) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise TrackingServerError(
                self.address,
                f"did not answer ({reason}): start it, or correct MLFLOW_TRACKING_URI, then run "
                "the same command again: it continues",
            ) from error

    def _refusal(self, error: urllib.error.HTTPError, path: str) -> TrackingServerError:
        with error:
            text = error.read(10_000).decode(errors="replace")
        try:
            told = json.loads(text)
        except ValueError:
            told = {}
        told = told if isinstance(told, dict) else {}
        if error.code == MISSING and told.get("error_code") == MISSING_CODE:
            return _NoSuchThingError(self.address, "does not have it")
        message = " ".join(str(told.get("message") or text or error.reason).split())[:300]
        if error.code in REFUSED:
            advice = (
                "set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, of an account that may write"
            )
        else:
            advice = "correct that, then run the same command again: it continues"
        what = path.partition("?")[0]
        return TrackingServerError(
            self.address, f"refused {what} with {error.code} ({message}): {advice}"
        )


class _NoSuchThingError(TrackingServerError):
    """The server says that what was asked for does not exist."""


def as_pairs(values: Mapping[str, str]) -> list[Json]:
    """Write tags or params as the API takes them."""
    return [{"key": key, "value": value} for key, value in values.items()]
