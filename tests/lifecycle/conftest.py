"""A small experiment, and stores of both kinds."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from rl_lifecycle.experiment.experiment import Experiment, read_experiment
from rl_lifecycle.experiment.spec import Spec, freeze_spec
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.object_store import ObjectStore
from rl_lifecycle.storage.s3_store import S3Store

NIGHT = datetime(2026, 11, 22, 2, tzinfo=UTC)


@pytest.fixture
def document() -> dict[str, Any]:
    """An experiment file with only the keys that have no default."""
    return {
        "env_id": "CartPole-v1",
        "algo": "ppo",
        "total_timesteps": 100_000,
        "evaluation": {"return_range": [0, 500], "crash_below": 100},
    }


@pytest.fixture
def experiment(document: dict[str, Any]) -> Experiment:
    """The experiment of that file."""
    return read_experiment(document, "cartpole_ppo")


@pytest.fixture
def spec(experiment: Experiment) -> Spec:
    """The experiment, frozen for one run."""
    return freeze_spec(experiment, run_id="night-1", created_at=NIGHT)


@pytest.fixture(params=["directory", "bucket"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ObjectStore]:
    """Each kind of store, because both must behave the same."""
    if request.param == "directory":
        yield DirectoryStore(tmp_path / "store")
        return
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="lake")
        yield S3Store(client, "lake", "team/")


@pytest.fixture
def new_nonce() -> Callable[[], str]:
    """Yield different nonces."""
    counter = iter(range(1000))
    return lambda: f"nonce-{next(counter)}"
