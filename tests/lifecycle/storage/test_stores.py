"""Both stores write whole objects, let one writer win, and recognise their own writes."""

import threading
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rl_lifecycle.errors import (
    CorruptArtifactError,
    InvalidRecordError,
    MissingObjectError,
    PreconditionFailedError,
    StoreUnavailableError,
)
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.object_store import ObjectStore, get, put_once, read_from
from rl_lifecycle.storage.s3_store import S3Store, split_s3_uri


def test_what_was_put_is_found_and_listed_in_order(store: ObjectStore) -> None:
    """Keys are listed in order, with the sizes and ETags that a read gives."""
    for key in ("a/2", "a/1", "b/1"):
        store.put(key, key.encode())
    assert [(item.key, item.n_bytes) for item in store.list("a/")] == [("a/1", 3), ("a/2", 3)]
    assert [item.key for item in store.list("")] == ["a/1", "a/2", "b/1"]
    found = store.find("a/1")
    assert found is not None
    assert (found.data, found.etag) == (b"a/1", next(iter(store.list("a/1"))).etag)
    assert store.find("nowhere") is None


def test_a_key_is_written_once(store: ObjectStore) -> None:
    """A second writer of other bytes loses; the same bytes may be written again."""
    assert put_once(store, "k", b"one")
    assert put_once(store, "k", b"one")
    assert not put_once(store, "k", b"two")
    assert get(store, "k").data == b"one"


def test_if_match_moves_a_key_only_from_what_was_read(store: ObjectStore) -> None:
    """A write with an older ETag loses (compare-and-swap)."""
    first = store.put("head", b"1")
    store.put("head", b"2", if_match=first)
    with pytest.raises(PreconditionFailedError):
        store.put("head", b"3", if_match=first)
    with pytest.raises(PreconditionFailedError):
        store.put("absent", b"3", if_match=first)
    assert get(store, "head").data == b"2"


def test_one_of_racing_writers_wins(tmp_path: Path) -> None:
    """Of sixteen concurrent writers with If-None-Match, exactly one wins."""
    store, wins = DirectoryStore(tmp_path), []

    def write(index: int) -> None:
        wins.append(put_once(store, "claim", str(index).encode()))

    threads = [threading.Thread(target=write, args=(index,)) for index in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(wins) == 1


def test_a_missing_key_and_a_changed_one_raise_different_errors(store: ObjectStore) -> None:
    """A read with a digest tells a missing object from a changed one."""
    with pytest.raises(MissingObjectError):
        get(store, "k")
    store.put("k", b"changed")
    with pytest.raises(CorruptArtifactError, match="do not use it"):
        get(store, "k", sha256="0" * 64)


def test_deleting_is_repeatable(store: ObjectStore) -> None:
    """Deleting twice is no error."""
    store.put("k", b"")
    store.delete("k")
    store.delete("k")
    assert store.find("k") is None


class FakeLossyClient:
    """An S3 client that loses the answer of its first conditional write."""

    def __init__(self, client: Any) -> None:
        self._client, self.lost = client, 0

    def put_object(self, **request: Any) -> Any:
        answer = self._client.put_object(**request)
        if self.lost == 0 and ("IfNoneMatch" in request or "IfMatch" in request):
            self.lost += 1
            return self._client.put_object(**request)  # botocore's retry
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


@pytest.mark.parametrize("store", ["bucket"], indirect=True)
def test_a_conditional_write_whose_answer_was_lost_is_recognised(store: S3Store) -> None:
    """The retry gets 412 because of its own write, and a read shows that the write succeeded."""
    lossy = S3Store(FakeLossyClient(store.client), store.bucket, store.prefix)
    etag = lossy.put("k", b"mine", if_none_match=True)
    assert etag == get(store, "k").etag
    assert lossy.client.lost == 1


@pytest.mark.parametrize("store", ["bucket"], indirect=True)
def test_a_bucket_that_does_not_answer_is_not_an_absent_key(store: S3Store) -> None:
    """An access error is not reported as a missing key."""
    with pytest.raises(StoreUnavailableError):
        S3Store(store.client, "another-bucket").find("k")


def test_a_key_cannot_leave_a_directory_store(tmp_path: Path) -> None:
    """Keys come from files that people write."""
    with pytest.raises(StoreUnavailableError, match="points outside the store"):
        DirectoryStore(tmp_path / "store").put("../outside", b"")


def test_a_full_or_read_only_place_is_reported(tmp_path: Path) -> None:
    """A directory without write access is an unavailable store, not a system error."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnavailableError):
        DirectoryStore(tmp_path / "file").put("k", b"")


def test_uris_are_split_into_bucket_and_prefix() -> None:
    """A prefix is empty or ends with a slash."""
    assert split_s3_uri("s3://lake") == ("lake", "")
    assert split_s3_uri("s3://lake/a/b/") == ("lake", "a/b/")


class FakeUnreadableClient:
    """An S3 client whose object was archived, or encrypted with a key of its writer."""

    def __init__(self, code: str) -> None:
        self.code = code

    def get_object(self, **request: Any) -> Any:
        raise ClientError({"Error": {"Code": self.code, "Message": "no"}}, "GetObject")


@pytest.mark.parametrize("code", ["InvalidObjectState", "InvalidRequest"])
def test_an_object_that_nobody_else_can_read_is_its_writers_fault(code: str) -> None:
    """One writer must not make the bucket look as if it did not answer."""
    client: Any = FakeUnreadableClient(code)
    with pytest.raises(InvalidRecordError, match=r"s3://lake/k: cannot be read: .*" + code):
        S3Store(client, "lake").find("k")


@pytest.mark.parametrize("store", ["bucket"], indirect=True)
def test_no_more_is_read_than_fits(store: S3Store) -> None:
    """A greater object is refused before it is transferred. A log is read in pieces."""
    small = S3Store(store.client, store.bucket, store.prefix, most_bytes=4)
    store.put("fits", b"1234")
    store.put("k", b"123456789")
    assert get(small, "fits").data == b"1234"
    with pytest.raises(InvalidRecordError, match="has 9 bytes, and at most 4 are read"):
        small.find("k")
    assert [read_from(small, "k", at) for at in (0, 4, 8, 9)] == [b"1234", b"5678", b"9", b""]
