"""The Lambda handler works against S3 as moto emulates it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from rl_evaluator import handler
from rl_lifecycle.evaluation.requests import Shard
from rl_lifecycle.experiment.spec import Artifact
from rl_lifecycle.storage.s3_store import S3Store
from tests.evaluator.policy_files import policy_for_id
from tests.evaluator.stored_runs import store_artifact


class FakeContext:
    """The part of Lambda's context that the handler uses."""

    def __init__(self, milliseconds: int) -> None:
        self.milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda stops the invocation."""
        return self.milliseconds


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Store]:
    """A bucket, and the environment variables of the Lambda."""
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


def event(policy: Artifact) -> dict[str, Any]:
    """Build a request as JSON data."""
    return json.loads(
        json.dumps(
            {
                "action": "evaluate",
                "experiment": "cartpole",
                "run": "r1",
                "name": "gate-candidate",
                "shard": 3,
                "policy": policy.model_dump(),
                "env_id": "CartPole-v1",
                "first_seed": 5,
                "n_episodes": 4,
                "deterministic": False,
            }
        )
    )


def test_the_handler_evaluates_from_s3_to_s3(bucket: S3Store) -> None:
    """The handler reads the policy from S3, stores the shard, and does not repeat finished work."""
    policy = store_artifact(bucket, "p.onnx", policy_for_id("CartPole-v1"))
    output = handler.handle(event(policy), FakeContext(900_000))
    assert json.loads(json.dumps(output)) == output
    found = bucket.find("evaluations/cartpole/r1/gate-candidate/shards/0003.json")
    assert found is not None
    assert len(Shard.from_json(found.data).returns) == 4
    assert handler.handle(event(policy), FakeContext(900_000)) == output


def test_the_context_limits_the_time(bucket: S3Store) -> None:
    """A context with no time left stops the evaluation before it begins."""
    policy = store_artifact(bucket, "p.onnx", policy_for_id("CartPole-v1"))
    with pytest.raises(Exception, match="no episode ended within"):
        handler.handle(event(policy), FakeContext(5_000))


def test_importing_the_handler_loads_nothing_heavy() -> None:
    """Importing the handler loads no heavy package, so a cold start is quick."""
    code = (
        "import sys, rl_evaluator.handler; "
        "print(sorted({'torch', 'stable_baselines3', 'airflow', 'boto3', 'onnx', 'scipy'} & "
        "set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
