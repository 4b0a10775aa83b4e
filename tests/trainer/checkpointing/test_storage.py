"""Stores that do not answer, are full, or refuse; botocore leaves `random` alone."""

import errno
import random
import time
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from rl_lifecycle.aws_errors import BELIEVED_AFTER_S, WAITING
from rl_lifecycle.records.record import sha256_hex
from rl_lifecycle.storage.object_store import StoredObject
from rl_lifecycle.storage.streams import put_pieces, read_verified
from rl_trainer.checkpointing import stores
from rl_trainer.checkpointing.stores import PatientStore, open_store
from rl_trainer.errors import BadInputError, DiskFullError, StoreLostError, TrainerError
from tests.trainer.conftest import TINY_PPO, Trainer, merged, trainer_environment
from tests.trainer.fake_stores import FakeBreakingStore, FakeFlakyStore


def test_a_store_that_comes_back_is_waited_for(tmp_path: Path) -> None:
    """Each failure is reported, so the heartbeat shows WAITING, and then the write succeeds."""
    heard: list[str] = []
    store = PatientStore(FakeFlakyStore(tmp_path, failures=3), on_wait=heard.append)
    store.put("a/b", b"data")
    found = store.find("a/b")
    assert found is not None
    assert found.data == b"data"
    assert len(heard) == 3


def test_a_long_transfer_uses_up_no_patience(tmp_path: Path) -> None:
    """Patience begins with the first failure, however long the transfer took before."""

    class FakeSlowStore(FakeFlakyStore):
        """A store that takes longer than the patience and then fails."""

        def find(self, key: str) -> StoredObject | None:
            """Read, or wait and fail."""
            if self.calls < self.failures:
                time.sleep(0.5)
            return super().find(key)

    assert PatientStore(FakeSlowStore(tmp_path, failures=1), patience_s=0.4).find("a") is None


def test_patience_ends(tmp_path: Path) -> None:
    """The attempt ends with its own exit code when the patience ends."""
    store = PatientStore(FakeFlakyStore(tmp_path, failures=10**6), patience_s=0.3)
    with pytest.raises(StoreLostError, match="no answer") as raised:
        store.find("a")
    assert raised.value.exit_code == 74


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG])
def test_a_full_or_read_only_directory_is_not_waited_for(tmp_path: Path, number: int) -> None:
    """A full disk ends the attempt at once with the fix, because waiting frees no space."""
    store = PatientStore(
        FakeFlakyStore(tmp_path, failures=10**6, error=OSError(number, "as the kernel says"))
    )
    started = time.monotonic()
    with pytest.raises(DiskFullError, match="choose another --store"):
        store.put("a", b"")
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("code", ["NoSuchBucket", "EntityTooLarge"])
def test_a_missing_bucket_is_not_waited_for(tmp_path: Path, code: str) -> None:
    """A wrong name or a too large object ends the attempt at once."""
    error = ClientError({"Error": {"Code": code}}, "PutObject")
    with pytest.raises(StoreLostError):
        PatientStore(FakeFlakyStore(tmp_path, failures=10**6, error=error)).put("a", b"")


@pytest.mark.parametrize(
    ("error", "most_s"),
    [
        (ClientError({"Error": {"Code": "SlowDown"}}, "PutObject"), WAITING["s3"].most_s),
        (EndpointConnectionError(endpoint_url="https://s3"), WAITING["s3"].most_s),
        (TimeoutError("a file system that hangs"), WAITING["s3"].most_s),
        (ClientError({"Error": {"Code": "AccessDenied"}}, "PutObject"), BELIEVED_AFTER_S),
        (ClientError({"Error": {"Code": "ExpiredToken"}}, "PutObject"), BELIEVED_AFTER_S),
        (ClientError({"Error": {"Code": "NewError"}}, "PutObject"), BELIEVED_AFTER_S),
        (ClientError({"Error": {"Code": "NoSuchBucket"}}, "PutObject"), 0.0),
    ],
)
def test_a_trainer_waits_by_the_table_of_all_services(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, most_s: float
) -> None:
    """A busy S3 is waited for as long as anywhere else, and a refusal is believed as soon."""
    now = [100.0]
    monkeypatch.setattr(stores.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(stores.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    store = PatientStore(FakeFlakyStore(tmp_path, failures=10**6, error=error))
    with pytest.raises(StoreLostError):
        store.find("a")
    assert most_s <= now[0] - 100.0 < most_s + 30.0


def test_waiting_draws_nothing_from_the_global_generator(tmp_path: Path) -> None:
    """An environment may use `random`, so retries in another thread must not."""
    random.seed(1)
    expected = random.Random(1).random()
    PatientStore(FakeFlakyStore(tmp_path, failures=2)).put("a", b"")
    assert random.random() == expected


def test_a_trial_runs_on_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole trial works on S3: conditional writes, checkpoints, policy and digest."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        boto3.client("s3").create_bucket(
            Bucket="lake", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        store = open_store("s3://lake/team")
        etag = store.put("a", b"1", if_none_match=True)
        assert store.put("a", b"2", if_match=etag) != etag
        assert [info.key for info in store.list("")] == ["a"]


@pytest.mark.parametrize(
    "uri", ["", " ", "gs://bucket", "s3://", "s3://lake?x=1", "/proc/nowhere/store"]
)
def test_an_impossible_store_is_bad_input(uri: str) -> None:
    """The error is one line, before the training begins."""
    with pytest.raises(BadInputError, match="--store"):
        open_store(uri)


def test_a_disk_that_fills_up_leaves_the_last_checkpoint_good(
    tmp_path: Path, trainer: Trainer, start_trainer: Any, write_spec: Any
) -> None:
    """A file-size limit, instead of a full disk, gives exit 73; with space the trial finishes."""
    spec, store = str(write_spec(merged(TINY_PPO))), str(tmp_path / "store")
    done = start_trainer(
        "train", "--spec", spec, "--store", store, "--quiet", env={"TEST_FILE_LIMIT": "2000"}
    ).finish()
    assert done.returncode == 73, done.stderr
    assert "file too large" in done.stderr
    assert trainer("train", "--spec", spec, "--store", store, "--quiet").returncode == 0
    assert trainer_environment()


def test_an_interrupted_read_starts_again(tmp_path: Path) -> None:
    """Bytes before the interruption count neither for the reader nor for the digest."""
    store = FakeBreakingStore(tmp_path)
    patient = PatientStore(store, patience_s=30)
    put_pieces(
        patient, "chunk", [memoryview(b"some"), memoryview(b"thing")], sha256_hex(b"something")
    )
    assert (
        read_verified(
            patient,
            "chunk",
            sha256_hex(b"something"),
            lambda reader: reader.read(4) + reader.read(9),
        )
        == b"something"
    )
    assert store.broken
    with pytest.raises(TrainerError, match="changed in memory") as raised:
        put_pieces(patient, "other", [memoryview(b"overwritten")], sha256_hex(b"something"))
    assert (raised.value.exit_code, patient.find("other")) == (70, None)
