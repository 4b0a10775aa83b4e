"""One command exports a run of a bucket."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra_bootstrap.commands.run_export import export_from_bucket
from infra_bootstrap.errors import NotDeployedError
from rl_lifecycle.storage.layout import (
    EVALUATIONS,
    METRICS,
    SPECS,
    VERDICTS,
    WRITERS,
    page_of_report,
    report_key,
    run_and_name_of_report,
)
from rl_lifecycle.storage.s3_store import S3Store
from tests.infra_bootstrap.accounts import Deployment
from tests.infra_bootstrap.exports.stored_runs import EXPERIMENT, RUN
from tests.infra_bootstrap.exports.tracking_servers import TrackingStore, serve
from tests.stored_forms.night.restore import read_archive


@pytest.fixture
def night(dev: Deployment) -> Deployment:
    """The environment with a stored run, as the roles write it today."""
    stores = {
        role: S3Store(dev.as_role(role).s3, dev.bucket)
        for role in ("launcher", "trainer", "evaluator", "judge")
    }
    for key, data in read_archive().objects.items():
        key_class = f"{key.split('/')[0]}/"
        if f"/{RUN}/" not in key or key_class not in (SPECS, METRICS, EVALUATIONS):
            continue
        if key_class == EVALUATIONS and "/shards/" not in key:
            _, name = run_and_name_of_report(key)
            key = report_key(EXPERIMENT, RUN, name)
            key = key if data.startswith(b"{") else page_of_report(key)
            key_class = VERDICTS
        stores[WRITERS[key_class][0]].put(key, data, if_none_match=True)
    return dev


def test_the_worker_and_an_administrator_export_to_tensorboard(
    night: Deployment, tmp_path: Path
) -> None:
    """Each reads the bucket with its own credentials, and gets the same files."""
    for role in ("airflow-worker", "administrator"):
        words = ["export-run", RUN, "--environment", "dev", "--to", "tensorboard"]
        words += ["--output", str(tmp_path / role), "--json"]
        done = night.account.cli(*words, role=role)
        assert done.returncode == 0, done.stderr
        answer = json.loads(done.stdout)
        assert (answer["experiment"], answer["run"], answer["problems"]) == (EXPERIMENT, RUN, [])
        written = [path for path in Path(answer["to"]).rglob("*") if path.is_file()]
        assert len(written) == answer["files"] == 5


def test_the_command_exports_to_mlflow(night: Deployment) -> None:
    """The server is the one that MLflow's own variable names."""
    kept = TrackingStore()
    with serve(kept) as address:
        words = ["export-run", RUN, "--environment", "dev", "--to", "mlflow"]
        done = night.account.cli(*words, MLFLOW_TRACKING_URI=address)
        assert done.returncode == 0, done.stderr
    n_values = sum(map(len, kept.metrics.values()))
    assert f"{n_values} new values are in the experiment nightshift/dev/{EXPERIMENT}" in done.stdout
    assert n_values > 100


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["no-run", "--to", "tensorboard"], 2, "has no run no-run"),
        ([RUN, "--to", "tensorboard", "--experiment", "other"], 2, f"--experiment {EXPERIMENT}"),
        ([RUN, "--to", "mlflow"], 2, "set MLFLOW_TRACKING_URI"),
        ([RUN, "--to", "mlflow", "--output", "here"], 2, "--output is only for"),
        ([RUN, "--to", "tensorboard", "--output", "/proc/nowhere"], 1, "/proc/nowhere"),
        ([RUN, "--to", "wandb"], 2, "invalid choice"),
    ],
)
def test_a_mistake_is_one_line(night: Deployment, words: list[str], status: int, told: str) -> None:
    """It says what to do next."""
    done = night.account.cli("export-run", *words, "--environment", "dev")
    assert (done.returncode, done.stderr.count("\n")) == (status, 1), done.stderr
    assert told in done.stderr


def test_an_environment_without_a_bucket_is_named(dev: Deployment, tmp_path: Path) -> None:
    """The next command is to deploy it."""
    with pytest.raises(NotDeployedError, match="deploy --environment none"):
        export_from_bucket(
            dev.account.clients(), "none", RUN, "tensorboard", experiment=None, output=tmp_path
        )
