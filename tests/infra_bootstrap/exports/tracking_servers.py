"""A small tracking server over HTTP, after MLflow's published REST API.

It refuses what MLflow refuses, and keeps every metric that it gets, so a value that is sent twice
shows. Source: https://mlflow.org/docs/latest/rest-api.html
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

NAME = re.compile(r"[\w. /-]{1,250}", re.ASCII)
FILTER = re.compile(r"tags\.`([\w.]+)` = '([^']+)'")
#: Answers are cut into pages so early that a client must ask for the next one.
PAGE = 3
API, ARTIFACTS = "/api/2.0/mlflow/", "/api/2.0/mlflow-artifacts/artifacts/"

Json = dict[str, Any]


class RefusedError(Exception):
    """A request that MLflow refuses."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status, self.code = status, code
        super().__init__(message)


class TrackingStore:
    """What the server keeps.

    :param serves_artifacts: False as with `mlflow server --no-serve-artifacts`.
    """

    def __init__(self, *, serves_artifacts: bool = True) -> None:
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, Json] = {}
        self.metrics: dict[str, list[Json]] = {}
        self.artifacts: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.authorization = ""
        self.refuse_after: int | None = None
        self._scheme = "mlflow-artifacts:/" if serves_artifacts else "s3://elsewhere/"

    def answer(self, method: str, path: str, query: Json, body: bytes, authorized: str) -> Json:
        """Answer a request."""
        if self.authorization and authorized != self.authorization:
            raise RefusedError(401, "UNAUTHENTICATED", "You are not authenticated")
        if self.refuse_after is not None and len(self.calls) >= self.refuse_after:
            raise RefusedError(500, "INTERNAL_ERROR", "database is locked")
        if method == "PUT" and path.startswith(ARTIFACTS):
            self.artifacts[path.removeprefix(ARTIFACTS)] = body
            return {}
        self.calls.append(path.removeprefix(API))
        name = f"{method} {path.removeprefix(API)}"
        return dict(_HANDLERS[name](self, json.loads(body) if body else query))

    def find_experiment(self, request: Json) -> Json:
        """GET experiments/get-by-name."""
        name = request["experiment_name"]
        if name not in self.experiments:
            raise RefusedError(404, "RESOURCE_DOES_NOT_EXIST", f"no experiment {name}")
        found = {"experiment_id": self.experiments[name], "lifecycle_stage": "active"}
        return {"experiment": found | {"name": name}}

    def create_experiment(self, request: Json) -> Json:
        """POST experiments/create."""
        self.experiments[request["name"]] = str(len(self.experiments) + 1)
        return {"experiment_id": self.experiments[request["name"]]}

    def search_runs(self, request: Json) -> Json:
        """POST runs/search."""
        wanted = FILTER.fullmatch(request["filter"])
        assert wanted, request
        found = [
            run
            for run in self.runs.values()
            if run["info"]["experiment_id"] in request["experiment_ids"]
            and {"key": wanted[1], "value": wanted[2]} in run["data"]["tags"]
        ]
        return self._page("runs", found[::-1], request)

    def create_run(self, request: Json) -> Json:
        """POST runs/create."""
        run_id = f"{len(self.runs):032x}"
        uri = f"{self._scheme}{request['experiment_id']}/{run_id}/artifacts"
        info = {"run_id": run_id, "artifact_uri": uri, "status": "RUNNING"}
        data: Json = {"tags": list(request["tags"]), "params": [], "metrics": []}
        named = {"run_name": request["run_name"], "start_time": request["start_time"]}
        info |= {"experiment_id": request["experiment_id"], **named}
        self.runs[run_id] = {"info": info, "data": data}
        self.metrics[run_id] = []
        return {"run": self.runs[run_id]}

    def log_batch(self, request: Json) -> Json:
        """POST runs/log-batch."""
        metrics, params, tags = (request[kind] for kind in ("metrics", "params", "tags"))
        if len(metrics) > 1000 or len(params) > 100 or len(tags) > 100:
            raise RefusedError(400, "INVALID_PARAMETER_VALUE", "too many values in a batch")
        data = self.runs[request["run_id"]]["data"]
        for one in (*metrics, *params):
            if not NAME.fullmatch(one["key"]):
                raise RefusedError(400, "INVALID_PARAMETER_VALUE", f"bad name {one['key']!r}")
        known = {one["key"]: one["value"] for one in data["params"]}
        for one in params:
            if known.setdefault(one["key"], one["value"]) != one["value"]:
                raise RefusedError(400, "INVALID_PARAMETER_VALUE", "a param cannot be changed")
        data["params"] = [{"key": key, "value": value} for key, value in known.items()]
        newest = {one["key"]: one["value"] for one in (*data["tags"], *tags)}
        data["tags"] = [{"key": key, "value": value} for key, value in newest.items()]
        assert all(type(one["timestamp"]) is type(one["step"]) is int for one in metrics)
        self.metrics[request["run_id"]] += metrics
        latest = {one["key"]: one for one in self.metrics[request["run_id"]]}
        data["metrics"] = list(latest.values())
        return {}

    def update_run(self, request: Json) -> Json:
        """POST runs/update."""
        self.runs[request["run_id"]]["info"] |= request
        return {}

    def read_history(self, request: Json) -> Json:
        """GET metrics/get-history."""
        logged = self.metrics[request["run_id"]]
        found = [one for one in logged if one["key"] == request["metric_key"]]
        return self._page("metrics", found, request)

    def _page(self, name: str, items: list[Json], request: Json) -> Json:
        begin = int(request.get("page_token") or 0)
        more = {"next_page_token": str(begin + PAGE)} if len(items) > begin + PAGE else {}
        return {name: items[begin : begin + PAGE], **more}


_HANDLERS = {
    "GET experiments/get-by-name": TrackingStore.find_experiment,
    "POST experiments/create": TrackingStore.create_experiment,
    "POST runs/search": TrackingStore.search_runs,
    "POST runs/create": TrackingStore.create_run,
    "POST runs/log-batch": TrackingStore.log_batch,
    "POST runs/update": TrackingStore.update_run,
    "GET metrics/get-history": TrackingStore.read_history,
}


@contextmanager
def serve(store: TrackingStore) -> Iterator[str]:
    """Serve a store on the loopback. :return: its address."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            authorized = self.headers.get("Authorization", "")
            status, answer = 200, {}
            try:
                query = dict(parse_qsl(url.query))
                answer = store.answer(self.command, url.path, query, body, authorized)
            except RefusedError as error:
                status, answer = error.status, {"error_code": error.code, "message": str(error)}
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = _answer

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
