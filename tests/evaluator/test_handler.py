"""The entries of the functions load only what they need, and find their parts by variables."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from rl_evaluator import handler
from rl_lifecycle.storage.s3_store import S3Store
from tests.evaluator.stored_runs import store_shard, store_spec

HEAVY = "{'torch', 'stable_baselines3', 'airflow', 'boto3', 'onnx', 'scipy'}"
FOREIGN = "{'numpy', 'onnxruntime', 'onnx', 'gymnasium', 'PIL', 'torch'}"
#: Let the dispatcher answer an arrival, and the judge refuse a request, without AWS.
DISPATCH_AND_JUDGE = f"""
import sys, tempfile
from pathlib import Path
from rl_evaluator.dispatch import Dispatcher
from rl_evaluator.dispatching import functions, signing
from rl_evaluator.judge import answer_judge, read_judge_request
from rl_evaluator.judging import decisions
from rl_evaluator.pages import report_pages
from rl_lifecycle.storage.directory_store import DirectoryStore
store = DirectoryStore(Path(tempfile.mkdtemp()))
Dispatcher(store, None, None).answer({{"detail-type": "Object Deleted"}})
print(sorted({FOREIGN} & set(sys.modules)))
"""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Store]:
    """A bucket, and the environment variables of the judge."""
    for name, value in {
        "BUCKET": "nightshift-test",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    handler._store.cache_clear()
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(
            Bucket="nightshift-test",
            CreateBucketConfiguration={"LocationConstraint": "eu-central-1"},
        )
        yield S3Store(client, "nightshift-test")
    handler._store.cache_clear()


def test_the_judge_decides_from_s3_to_s3(bucket: S3Store) -> None:
    """The judge reads the shards from S3, and stores the report below verdicts/."""
    spec, artifact = store_spec(bucket, evaluation={"first_champion_above": 1})
    store_shard(bucket, spec, "gate-candidate", [400.0] * 80)
    asked: dict[str, Any] = {
        "action": "decide",
        "experiment": "cartpole",
        "run": spec.run,
        "candidate": "gate-candidate",
        "champion": None,
        "spec": artifact.model_dump(),
    }
    answer = handler.judge({"asked": asked})
    assert json.loads(json.dumps(answer)) == answer
    assert answer["report_key"] == f"verdicts/cartpole/{spec.run}/gate-candidate.json"
    assert bucket.find(answer["report_key"]) is not None


def loaded_by(code: str) -> str:
    """Run Python code in a fresh process, and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_the_handler_loads_nothing_heavy() -> None:
    """Importing the handler loads no heavy package, so a cold start is quick."""
    code = f"import sys, rl_evaluator.handler; print(sorted({HEAVY} & set(sys.modules)))"
    assert loaded_by(code) == "[]"


def test_dispatcher_and_judge_load_nothing_that_plays() -> None:
    """Neither has a library in its process that runs a policy or an environment."""
    assert loaded_by(DISPATCH_AND_JUDGE) == "[]"
