"""A store in a directory, and a run whose policies can be evaluated."""

from pathlib import Path

import pytest

from rl_lifecycle.experiment.spec import Artifact
from rl_lifecycle.storage.directory_store import DirectoryStore
from tests.evaluator.policy_files import policy_for_id
from tests.evaluator.stored_runs import store_artifact


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    """An empty store."""
    (tmp_path / "bucket").mkdir()
    return DirectoryStore(tmp_path / "bucket")


@pytest.fixture
def cartpole(store: DirectoryStore) -> Artifact:
    """A CartPole policy in the store."""
    return store_artifact(store, "cartpole.onnx", policy_for_id("CartPole-v1"))
