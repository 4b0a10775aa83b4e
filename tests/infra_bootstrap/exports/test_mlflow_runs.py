"""A run arrives in a tracking server over HTTP once, in batches, also after an interruption."""

import json
import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from infra_bootstrap.errors import BadInputError, TrackingServerError
from infra_bootstrap.exports.mlflow_runs import WrittenRun, export_to_server, tags_of
from infra_bootstrap.exports.run_contents import SELECTION_MEAN
from infra_bootstrap.exports.tracking_server import TrackingServer
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.layout import TrialId, curve_key
from tests.infra_bootstrap.exports.stored_runs import (
    EXPERIMENT,
    RUN,
    TRIAL,
    open_run,
    recorded_curves,
    write_runs,
)
from tests.infra_bootstrap.exports.tracking_servers import TrackingStore, serve


def export(store: DirectoryStore, address: str, **variables: str) -> WrittenRun:
    """Export a run to the server at an address."""
    server = TrackingServer.from_variables({"MLFLOW_TRACKING_URI": address, **variables})
    return export_to_server(open_run(store), server, "dev")


def logged(kept: TrackingStore, trial: str) -> dict[str, list[tuple[int, float]]]:
    """What the server keeps of a trial: name → points."""
    run_id = next(
        run_id
        for run_id, run in kept.runs.items()
        if tags_of(run).get("nightshift.trial", "") == trial
    )
    found: dict[str, list[tuple[int, float]]] = {}
    for one in kept.metrics[run_id]:
        found.setdefault(one["key"], []).append((one["step"], one["value"]))
    return found


def test_mlflow_gets_the_curves_of_the_bucket(tmp_path: Path) -> None:
    """Each value is at its step, once, and a batch holds as many as MLflow takes."""
    store, kept = write_runs(tmp_path), TrackingStore()
    with serve(kept) as address:
        done = export(store, address)
    points = logged(kept, TRIAL)
    recorded = recorded_curves(store)
    assert {name: dict(points[name]) for name in recorded} == recorded
    assert [len(points[name]) for name in recorded] == [len(one) for one in recorded.values()]
    assert points[SELECTION_MEAN] == [
        (point.step, point.values[SELECTION_MEAN])
        for point in open_run(store).read_selection(TRIAL)
    ]
    assert done.n_metrics == sum(map(len, kept.metrics.values()))
    assert kept.calls.count("runs/log-batch") == 5  # settings and values of two runs, and the tags
    assert list(kept.experiments) == [f"nightshift/dev/{EXPERIMENT}"] == [done.experiment]


def test_mlflow_gets_the_decision_and_its_page(tmp_path: Path) -> None:
    """The decision is a tag, a note and files of the run; the trial is a run below it."""
    store, kept = write_runs(tmp_path), TrackingStore()
    with serve(kept) as address:
        done = export(store, address)
    judged = open_run(store).find_judged()
    assert judged is not None
    parent, trial = kept.runs.values()
    assert tags_of(parent)["nightshift.decision"] == judged.report.verdict.decision == "PROMOTE"
    assert tags_of(parent)["mlflow.note.content"] == judged.text
    assert tags_of(trial)["mlflow.parentRunId"] == parent["info"]["run_id"] == done.run_id
    assert {run["info"]["status"] for run in kept.runs.values()} == {"FINISHED"}
    folder = f"1/{done.run_id}/artifacts"
    assert kept.artifacts.keys() == {
        f"{folder}/{name}" for name in ("spec.json", "decision.txt", "report.json", "report.html")
    }
    assert kept.artifacts[f"{folder}/report.html"] == judged.page
    params = {one["key"]: one["value"] for one in trial["data"]["params"]}
    assert params["algo"] == "ppo"
    assert params["seed"] == str(open_run(store).spec.trials[0].seed)


def test_a_second_export_adds_nothing(tmp_path: Path) -> None:
    """Neither a run nor a value is there twice."""
    store, kept = write_runs(tmp_path), TrackingStore()
    with serve(kept) as address:
        first = export(store, address)
        n_values = sum(map(len, kept.metrics.values()))
        second = export(store, address)
    assert (second.run_id, second.n_metrics) == (first.run_id, 0)
    assert (len(kept.runs), sum(map(len, kept.metrics.values()))) == (2, n_values)


def test_an_export_that_was_cut_off_is_continued(tmp_path: Path) -> None:
    """Wherever the server failed, the next export adds exactly what is missing."""
    store, whole = write_runs(tmp_path), TrackingStore()
    with serve(whole) as address:
        export(store, address)
    for n_calls in range(1, len(whole.calls)):
        kept = TrackingStore()
        with serve(kept) as address:
            kept.refuse_after = n_calls
            with pytest.raises(TrackingServerError, match=r"database is locked.*it continues"):
                export(store, address)
            kept.refuse_after = None
            export(store, address)
        assert len(kept.runs) == 2
        assert logged(kept, TRIAL) == logged(whole, TRIAL)
        assert logged(kept, "") == logged(whole, "")


def test_a_run_that_trains_gets_its_new_values(tmp_path: Path) -> None:
    """An export during a night and one after it give the same as one."""
    store, kept = write_runs(tmp_path), TrackingStore()
    key = curve_key(TrialId(EXPERIMENT, RUN, TRIAL), 15360)
    late = store.find(key)
    assert late is not None
    store.delete(key)
    with serve(kept) as address:
        export(store, address)
        store.put(key, late.data)
        export(store, address)
    points = logged(kept, TRIAL)
    recorded = recorded_curves(store)
    assert {name: dict(points[name]) for name in recorded} == recorded
    assert [len(points[name]) for name in recorded] == [len(one) for one in recorded.values()]


def test_long_curves_and_odd_names_fit_into_batches(tmp_path: Path) -> None:
    """MLflow takes 1,000 values a call, and refuses many characters in names."""
    store, kept = write_runs(tmp_path), TrackingStore()
    lines = (json.dumps({"step": step, "loss@head#1": step}) for step in range(20_000, 22_500))
    store.put(curve_key(TrialId(EXPERIMENT, RUN, TRIAL), 22_500), "\n".join(lines).encode())
    with serve(kept) as address:
        export(store, address)
    assert len(logged(kept, TRIAL)["loss_head_1"]) == 2500
    assert kept.calls.count("runs/log-batch") == 7


def test_a_server_that_keeps_artifacts_elsewhere_is_named(tmp_path: Path) -> None:
    """The curves are there; a note says which files are not, and how they would be."""
    store, kept = write_runs(tmp_path), TrackingStore(serves_artifacts=False)
    with serve(kept) as address:
        done = export(store, address)
    assert not kept.artifacts
    (problem,) = done.problems
    assert "report.html" in problem
    assert "--artifacts-destination" in problem


def test_a_login_is_sent_and_a_refusal_is_one_line(tmp_path: Path) -> None:
    """The name and the password, or a token, are in MLflow's own variables."""
    store, kept = write_runs(tmp_path), TrackingStore()
    with serve(kept) as address:
        kept.authorization = "Bearer secret"
        with pytest.raises(TrackingServerError, match="MLFLOW_TRACKING_TOKEN") as caught:
            export(store, address)
        assert "\n" not in str(caught.value)
        export(store, address, MLFLOW_TRACKING_TOKEN="secret")
        kept.authorization = "Basic dmVyYTpwdw=="
        export(store, address, MLFLOW_TRACKING_USERNAME="vera", MLFLOW_TRACKING_PASSWORD="pw")


def test_a_server_that_is_away_is_one_line(tmp_path: Path) -> None:
    """It says what to do; a second try continues."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(
        TrackingServerError, match=r"did not answer .*MLFLOW_TRACKING_URI"
    ) as caught:
        export(write_runs(tmp_path), address)
    assert "\n" not in str(caught.value)


def test_another_server_is_not_taken_for_mlflow(tmp_path: Path) -> None:
    """A web page is no answer."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = Thread(target=server.handle_request, daemon=True)
    thread.start()
    with pytest.raises(TrackingServerError, match="does not answer as MLflow does"):
        export(write_runs(tmp_path), f"http://127.0.0.1:{server.server_port}")
    server.server_close()


@pytest.mark.parametrize("address", ["", "sqlite:///mlflow.db", "http://", "http://a:b@host"])
def test_an_address_that_cannot_be_used_is_one_line(address: str) -> None:
    """A password in the address would be printed."""
    with pytest.raises(BadInputError, match="set MLFLOW_TRACKING_URI"):
        TrackingServer.from_variables({"MLFLOW_TRACKING_URI": address})
