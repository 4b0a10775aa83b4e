"""One object store, two kinds: a bucket (or a prefix of one), and a directory with the same keys
and the same promises.

The promises: a key is written whole or not at all; `if_none_match` and `if_match` let exactly one
of racing writers win; a conditional write whose answer was lost is recognised as one's own by
reading back (so what is written under a condition must be unique to its writer, e.g. by a nonce,
unless writing the same bytes twice is harmless).
"""

import base64
import contextlib
import fcntl
import functools
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from rl_lifecycle.errors import (
    ChangedPiecesError,
    CorruptArtifactError,
    MissingObjectError,
    PreconditionFailedError,
    StoreUnavailableError,
)
from rl_lifecycle.storage.pieces import Pieces, PiecesReader, Reader, copied, digest_of

T = TypeVar("T")


@dataclass(frozen=True)
class StoredObject:
    """The bytes of a key, and the ETag to be handed back as `if_match`."""

    data: bytes
    etag: str


@dataclass(frozen=True)
class ObjectInfo:
    """One line of a listing. `key` is relative to the store."""

    key: str
    n_bytes: int
    etag: str
    modified_at: datetime


class ObjectStore(Protocol):
    """What the contract needs of a store."""

    @property
    def uri(self) -> str:
        """Where the store is, without a final slash."""
        ...

    def find(self, key: str) -> StoredObject | None:
        """Read a key.
        :return: None if it does not exist.
        :raises StoreUnavailableError: if that cannot be known.
        """
        ...

    def put(
        self, key: str, data: bytes, *, if_match: str | None = None, if_none_match: bool = False
    ) -> str:
        """Write a key whole.

        :param if_match: write only while the key still has this ETag.
        :param if_none_match: only while it is absent.
        :return: the new ETag.
        :raises PreconditionFailedError: if the condition does not hold, and the bytes there are not
            these.
        :raises StoreUnavailableError: if the store did not answer.
        """
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List the keys that begin with a prefix, in order."""
        ...

    def delete(self, key: str) -> None:
        """Delete a key; absent is fine."""
        ...


def get(store: ObjectStore, key: str, sha256: str | None = None) -> StoredObject:
    """Read a key that must exist.

    :param sha256: the digest that was recorded for it; None: not checked.
    :raises MissingObjectError: if it does not exist.
    :raises CorruptArtifactError: if its digest is another.
    """
    found = store.find(key)
    if found is None:
        raise MissingObjectError(f"{store.uri}/{key}")
    if sha256 is not None and (actual := hashlib.sha256(found.data).hexdigest()) != sha256:
        raise CorruptArtifactError(f"{store.uri}/{key}", sha256, actual)
    return found


def read_from(store: ObjectStore, key: str, offset: int) -> bytes:
    """Read a key's bytes from an offset on; a bucket sends no others. Empty if there are none, or
    no such key.
    """
    if isinstance(store, S3Store):
        return store.read_from(key, offset)
    found = store.find(key)
    return found.data[offset:] if found is not None else b""


def put_once(store: ObjectStore, key: str, data: bytes) -> bool:
    """Write a key unless it is there already. :return: whether these bytes are what is there
    now.
    """
    try:
        store.put(key, data, if_none_match=True)
    except PreconditionFailedError:
        return False
    return True


class DirectoryStore:
    """A directory that keeps a bucket's promises, for a laptop and for tests. ETags are SHA-256 of
    the content.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    @property
    def uri(self) -> str:
        """The directory, as a path."""
        return str(self.root)

    def find(self, key: str) -> StoredObject | None:
        """Read a key."""
        try:
            data = self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise StoreUnavailableError(
                f"{self.uri}/{key}", error.strerror or str(error)
            ) from error
        return StoredObject(data, hashlib.sha256(data).hexdigest())

    def put(
        self, key: str, data: bytes, *, if_match: str | None = None, if_none_match: bool = False
    ) -> str:
        """Write a key: into a temporary file, synchronised, then renamed over it, under a lock when
        conditional.
        """
        path = self._path(key)
        with self._answering(key):
            path.parent.mkdir(parents=True, exist_ok=True)
            with (
                self._locked()
                if if_match is not None or if_none_match
                else contextlib.nullcontext()
            ):
                self._check(key, data, if_match, if_none_match)
                self._replace(path, (data,))
        return hashlib.sha256(data).hexdigest()

    def put_pieces(self, key: str, pieces: Pieces, sha256: str) -> None:
        """Write a key from pieces of memory, as whole as :meth:`put` does; what changed on the way
        is not written.
        """
        path = self._path(key)
        with self._answering(key):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._replace(path, copied(pieces, sha256, f"{self.uri}/{key}"))

    def read_through(self, key: str, consume: Callable[[Reader], T]) -> T:
        """Let a key's bytes be read one after another."""
        path = self._path(key)
        if not path.is_file():
            raise MissingObjectError(f"{self.uri}/{key}")
        with self._answering(key), path.open("rb") as file:
            return consume(file)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List keys in order."""
        start = self._path(prefix if prefix.endswith("/") else prefix.rpartition("/")[0] or ".")
        for path in sorted(start.rglob("*")) if start.is_dir() else ():
            key = path.relative_to(self.root).as_posix()
            if (
                path.is_file()
                and key.startswith(prefix)
                and not path.name.startswith(".tmp-")
                and path.name != ".lock"
            ):
                try:
                    data, stat = path.read_bytes(), path.stat()
                except FileNotFoundError:
                    continue  # deleted while we listed
                yield ObjectInfo(
                    key,
                    len(data),
                    hashlib.sha256(data).hexdigest(),
                    datetime.fromtimestamp(stat.st_mtime, UTC),
                )

    def delete(self, key: str) -> None:
        """Delete a key."""
        self._path(key).unlink(missing_ok=True)

    def _check(self, key: str, data: bytes, if_match: str | None, if_none_match: bool) -> None:
        there = self.find(key)
        if if_none_match and there is not None and there.data != data:
            raise PreconditionFailedError(f"{self.uri}/{key}", "If-None-Match")
        if if_match is not None and (
            there is None or (there.etag != if_match and there.data != data)
        ):
            raise PreconditionFailedError(f"{self.uri}/{key}", "If-Match")

    @contextlib.contextmanager
    def _answering(self, key: str) -> Iterator[None]:
        """Take an error of the file system for a store that does not answer."""
        try:
            yield
        except OSError as error:
            raise StoreUnavailableError(
                f"{self.uri}/{key}", error.strerror or str(error)
            ) from error

    def _replace(self, path: Path, pieces: Iterable[bytes]) -> None:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.root / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _path(self, key: str) -> Path:
        path = (self.root / key).resolve()
        if not path.is_relative_to(self.root):
            raise StoreUnavailableError(f"{self.uri}/{key}", "the key leaves the store")
        return path


class S3Store:
    """A bucket, or a prefix of one.

    :param client: a boto3 S3 client; it brings credentials, region, retries.
    :param prefix: what all keys begin with; empty or ending with a slash.
    """

    def __init__(self, client: Any, bucket: str, prefix: str = "") -> None:
        self.client, self.bucket, self.prefix = client, bucket, prefix

    @property
    def uri(self) -> str:
        """`s3://bucket[/prefix]`."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def find(self, key: str) -> StoredObject | None:
        """Read a key."""
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)
            return StoredObject(answer["Body"].read(), answer["ETag"])
        except Exception as error:
            if error_code(error) in ("NoSuchKey", "404"):
                return None
            raise self._unavailable(key, error) from error

    def read_from(self, key: str, offset: int) -> bytes:
        """Read a key's bytes from an offset on, and transfer only those."""
        try:
            return bytes(
                self.client.get_object(
                    Bucket=self.bucket, Key=self.prefix + key, Range=f"bytes={offset}-"
                )["Body"].read()
            )
        except Exception as error:
            if error_code(error) in ("NoSuchKey", "404", "InvalidRange", "416"):
                return b""
            raise self._unavailable(key, error) from error

    def put(
        self, key: str, data: bytes, *, if_match: str | None = None, if_none_match: bool = False
    ) -> str:
        """Write a key; 409 (two conditional writes at once) is tried again, 412 is read back before
        it counts.

        Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """
        condition = (
            {"IfMatch": if_match}
            if if_match is not None
            else {"IfNoneMatch": "*"}
            if if_none_match
            else {}
        )
        for _ in range(5):
            try:
                answer = self.client.put_object(
                    Bucket=self.bucket, Key=self.prefix + key, Body=data, **condition
                )
                return str(answer["ETag"])
            except Exception as error:
                code = error_code(error)
                if condition and code in ("PreconditionFailed", "412", "NoSuchKey", "404"):
                    there = self.find(key)
                    if there is not None and there.data == data:
                        return there.etag  # the write that was retried had taken effect
                    raise PreconditionFailedError(
                        f"{self.uri}/{key}", next(iter(condition))
                    ) from error
                if code not in ("ConditionalRequestConflict", "409"):
                    raise self._unavailable(key, error) from error
        raise StoreUnavailableError(f"{self.uri}/{key}", "conditional writes kept colliding")

    def put_pieces(self, key: str, pieces: Pieces, sha256: str) -> None:
        """Write a key from pieces of memory, which are sent as they lie: S3 refuses them if they
        changed on the way.

        They are looked at afterwards too, for a server that compares no digests: memory that is
        still as it was, was sent as it was.
        """
        body, checksum = PiecesReader(pieces), base64.b64encode(bytes.fromhex(sha256)).decode()
        failure: Exception | None = None
        try:
            self.client.put_object(
                Bucket=self.bucket,
                Key=self.prefix + key,
                Body=body,
                ContentLength=len(body),
                ChecksumSHA256=checksum,
            )
        except Exception as error:
            failure = error
        if digest_of(pieces) != sha256:
            raise ChangedPiecesError(f"{self.uri}/{key}") from failure
        if failure is not None:
            raise self._unavailable(key, failure) from failure

    def read_through(self, key: str, consume: Callable[[Reader], T]) -> T:
        """Let a key's bytes be read as they arrive; what fails on the way is the store's
        failure.
        """
        try:
            body = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"]
        except Exception as error:
            if error_code(error) in ("NoSuchKey", "404"):
                raise MissingObjectError(f"{self.uri}/{key}") from error
            raise self._unavailable(key, error) from error
        with contextlib.closing(body):
            return consume(_Arriving(body, functools.partial(self._unavailable, key)))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List keys in order, a thousand per request."""
        try:
            for page in self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + prefix
            ):
                for item in page.get("Contents", ()):
                    yield ObjectInfo(
                        item["Key"].removeprefix(self.prefix),
                        item["Size"],
                        item["ETag"],
                        item["LastModified"],
                    )
        except Exception as error:
            raise self._unavailable(prefix, error) from error

    def delete(self, key: str) -> None:
        """Delete a key (in a versioned bucket: put a delete marker over it)."""
        try:
            self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key)
        except Exception as error:
            raise self._unavailable(key, error) from error

    def _unavailable(self, key: str, error: Exception) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"{self.uri}/{key}", f"{type(error).__name__}: {error}".splitlines()[0]
        )


class _Arriving:
    """An answer's body, whose errors are the store's."""

    def __init__(self, body: Any, failure: Callable[[Exception], StoreUnavailableError]) -> None:
        self._body, self._failure = body, failure

    def read(self, size: int) -> bytes:
        """Give at most so many bytes; none at the end."""
        try:
            return bytes(self._body.read(size))
        except Exception as error:  # urllib3's and botocore's, of many types
            raise self._failure(error) from error


def error_code(error: Exception) -> str:
    """Read AWS's error code off a botocore ClientError without importing botocore; empty for other
    errors.
    """
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def split_s3_uri(uri: str) -> tuple[str, str]:
    """Split `s3://bucket/prefix` into a bucket and a prefix that is empty or ends with a slash.

    >>> split_s3_uri("s3://lake/team/a")
    ('lake', 'team/a/')
    """
    parts = urlsplit(uri)
    prefix = parts.path.strip("/")
    return parts.netloc, f"{prefix}/" if prefix else ""
