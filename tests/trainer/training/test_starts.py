"""A training whose store cannot be used, or does not answer, before anything is trained."""

import signal
import time
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError

from rl_trainer.checkpointing import stores
from rl_trainer.checkpointing.stores import PatientStore
from rl_trainer.errors import BadInputError
from tests.trainer.conftest import TINY_PPO
from tests.trainer.fake_stores import FakeFlakyStore

NO_KEYS = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        (NO_KEYS, "Unable to locate credentials"),
        ({"AWS_PROFILE": "nobody"}, "The config profile (nobody) could not be found"),
        ({**KEYS, "AWS_ENDPOINT_URL": "nowhere"}, "Invalid endpoint: nowhere"),
    ],
)
def test_a_store_that_no_request_can_reach_is_bad_input(
    start_trainer: Any, write_spec: Any, env: dict[str, str], reason: str
) -> None:
    """One sentence says what to do, after some seconds in which a machine may get its keys."""
    spec = str(write_spec(TINY_PPO))
    started = time.monotonic()
    done = start_trainer("train", "--spec", spec, "--store", "s3://lake/run#1", env=env).finish()
    assert done.returncode == 2, done.stderr
    *waiting, ended = done.stderr.splitlines()
    assert ended == (
        f"rl_trainer train: --store s3://lake/run#1: {reason}; set AWS credentials and a region, "
        "for example AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_DEFAULT_REGION, and start again"
    )
    assert all("waiting for the store s3://lake/run#1" in line for line in waiting)
    assert len(waiting) <= 1
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_start_that_waits_says_so_and_obeys_signals(
    start_trainer: Any, write_spec: Any, number: int
) -> None:
    """One line comes at once, also with `--quiet`; a signal ends the waiting."""
    process = start_trainer(
        "train",
        *("--spec", str(write_spec(TINY_PPO)), "--store", "s3://lake/run", "--quiet"),
        env={**KEYS, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
    )
    deadline = time.monotonic() + 120
    errors = process._folder / "err"  # it comes with the process
    while not errors.exists() or "\n" not in errors.read_text():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1)  # more tries fail, and nothing more is written
    process.send_signal(number)
    sent = time.monotonic()
    done = process.finish()
    assert time.monotonic() - sent < 30
    waiting, ended = done.stderr.splitlines()
    assert waiting.startswith("rl_trainer train: waiting for the store s3://lake/run: ")
    assert ended == f"rl_trainer train: {signal.Signals(number).name} before the training began"
    assert done.returncode == 75


def test_only_a_store_that_never_answered_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine's credentials are renewed while it trains, so a later error is waited for."""
    monkeypatch.setattr(stores, "UNREACHABLE_S", 0.0)
    behind = FakeFlakyStore(tmp_path, failures=1, error=NoCredentialsError())
    store = PatientStore(behind, patience_s=20)
    with pytest.raises(BadInputError, match="Unable to locate credentials; set AWS credentials"):
        store.find("a")
    assert store.find("a") is None
    behind.failures = behind.calls + 1
    assert store.find("a") is None


@pytest.mark.parametrize(
    "error",
    [
        EndpointConnectionError(endpoint_url="http://127.0.0.1:9"),
        botocore.exceptions.ReadTimeoutError(endpoint_url="http://127.0.0.1:9"),
        botocore.exceptions.ClientError({"Error": {"Code": "SlowDown"}}, "GetObject"),
    ],
)
def test_a_store_without_an_answer_is_waited_for(tmp_path: Path, error: Exception) -> None:
    """The network may come back, and AWS may be less busy."""
    store = PatientStore(FakeFlakyStore(tmp_path, failures=2, error=error), patience_s=20)
    assert store.find("a") is None
