"""Resume on S3: answers of writes are lost at random, machines are killed, buffers overwritten.

The store is the S3 of the local AWS, reached over HTTP as on a machine.
"""

from __future__ import annotations

import json
import random
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rl_lifecycle.storage.layout import TrialId, head_key
from rl_lifecycle.storage.object_store import get
from rl_lifecycle.storage.s3_store import S3Store
from rl_lifecycle.trials.checkpoints import CheckpointManifest, Head
from tests.infra_bootstrap.accounts import Account
from tests.trainer.conftest import TINY_PPO, Done, Trainer, json_of, merged
from tests.trainer.training.test_attempts import HER, OFF_POLICY, SMALL

pytestmark = pytest.mark.local_aws
TRIAL = TrialId("tiny", "test", "seed-0")
#: The kills of each trial, while it trains or commits.
KILLS = 3
#: The share of writes whose answer is lost after they took effect, and of reads that fail.
LOST, FAILED = "rate=0.25", "rate=0.05"
#: One trial without a replay buffer, and two whose buffer is overwritten several times. HER's is
#: overwritten in the middle of episodes.
TRIALS: dict[str, dict[str, Any]] = {
    "ppo": merged(TINY_PPO, total_timesteps=2048 * 8),
    "dqn": {
        **OFF_POLICY,
        "total_timesteps": 10_000,
        "algo": "dqn",
        "hyperparameters": {**SMALL, "target_update_interval": 90, "n_envs": 2},
    },
    "her": {
        **TINY_PPO,
        "algo": "sac",
        "env_id": "tests.trainer.toy_envs:Toy-v0",
        "total_timesteps": 1_200,
        "checkpoint_every": 200,
        "env_kwargs": {"observation": "goal", "action": "box"},
        "hyperparameters": HER,
    },
}


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """A local AWS for the tests of this file."""
    made = Account(tmp_path_factory.mktemp("answers") / "state")
    yield made
    made.down()


@pytest.fixture
def bucket(account: Account) -> Iterator[S3Store]:
    """A new bucket, as the test sees it."""
    with account.reachable():
        s3, name = account.clients().s3, f"answers-{uuid.uuid4().hex[:8]}"
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        yield S3Store(s3, name)


def head_step(store: S3Store) -> int:
    """Return the head's committed step, or 0 without a head."""
    found = store.find(head_key(TRIAL))
    return Head.from_json(found.data).step if found else 0


def manifest_of_head(store: S3Store) -> CheckpointManifest:
    """Read the manifest of the committed checkpoint."""
    head = Head.from_json(get(store, head_key(TRIAL)).data)
    return CheckpointManifest.from_json(get(store, head.manifest_key).data)


def killed_after(store: S3Store, process: Any, step: int, pause_s: float) -> Done:
    """Kill a trainer some time after it has committed a step, if it still runs."""
    deadline = time.monotonic() + 120
    while process.poll() is None and head_step(store) <= step:
        assert time.monotonic() < deadline, "no checkpoint was committed"
        time.sleep(0.02)
    time.sleep(pause_s)
    process.send_signal(signal.SIGKILL)
    done: Done = process.finish()
    return done


@pytest.mark.kills
@pytest.mark.parametrize("name", TRIALS)
def test_lost_answers_and_kills_do_not_change_the_digest(
    account: Account,
    bucket: S3Store,
    tmp_path: Path,
    trainer: Trainer,
    start_trainer: Callable[..., Any],
    write_spec: Callable[..., Path],
    name: str,
) -> None:
    """The digest equals that of a trial in a directory which nothing interrupted."""
    spec, rng = str(write_spec(TRIALS[name])), random.Random(name)
    arguments = ("train", "--spec", spec, "--json", "--quiet", "--store")
    alone = json_of(trainer(*arguments, str(tmp_path / "alone")))
    env = {
        **account.variables("administrator"),
        "AWS_ENDPOINT_URL": account.endpoint_url,
        "AWS_REGION": account.region,
        "AWS_DEFAULT_REGION": account.region,
    }
    keys = f"key={bucket.bucket}/*"
    kills = 0
    with (
        account.fault("lose_response", "service=s3", "action=PutObject", keys, LOST),
        account.fault("error", "service=s3", "action=GetObject", keys, FAILED),
    ):
        while True:
            before = head_step(bucket)
            process = start_trainer(*arguments, bucket.uri, env=env)
            if kills < KILLS:
                done = killed_after(bucket, process, before, rng.uniform(0, 0.3))
            else:
                done = process.finish()
            assert done.returncode in (0, -signal.SIGKILL), done.stderr
            if done.returncode == 0:
                break
            kills += 1
        faults = account.local_aws("fault", "list", "--json")["faults"]
    assert json.loads(done.stdout)["digest"] == alone["digest"]
    assert kills > 0
    assert [fault["kind"] for fault in faults if fault["strikes"]][:1] == ["lose_response"], faults
    last = manifest_of_head(bucket)
    assert (last.step, last.digest) == (TRIALS[name]["total_timesteps"], alone["digest"])
    if name != "ppo":
        stored = [item.key for item in bucket.list(f"buffers/{TRIAL}/")]
        assert last.buffer_chunks
        assert len(stored) > len(last.buffer_chunks), "no chunk was overwritten: make it longer"
