"""An object store in an S3 bucket.

This package must not import botocore, because it also runs where botocore is not installed. So each
`except Exception` here stands for botocore's `ClientError` and `BotoCoreError`. It re-raises every
error as one of `rl_lifecycle.errors`, with the original error as its cause.
"""

import base64
import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, TypeVar, cast

from rl_lifecycle.aws_errors import error_code, may_pass
from rl_lifecycle.errors import (
    ChangedPiecesError,
    InvalidRecordError,
    MissingObjectError,
    PreconditionFailedError,
    StoreRefusedError,
    StoreUnavailableError,
)
from rl_lifecycle.storage.object_store import ObjectInfo, StoredObject
from rl_lifecycle.storage.pieces import Pieces, PiecesReader, Reader, digest_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import PutObjectRequestTypeDef

T = TypeVar("T")

#: S3's answers about an object that its writer archived, or encrypted with a key of its own.
#: https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
UNREADABLE = ("InvalidObjectState", "InvalidRequest")


class S3Store:
    """A bucket, or all keys of a bucket that begin with a prefix.

    :param client: a boto3 S3 client, which decides about credentials, region and retries.
    :param prefix: the beginning of all keys; empty, or with a slash at its end.
    :param most_bytes: the most bytes that one read takes into memory. It protects a process that
        reads for many experiments from a writer of one. None: no limit.
    """

    def __init__(
        self, client: "S3Client", bucket: str, prefix: str = "", most_bytes: int | None = None
    ) -> None:
        self.client, self.bucket, self.prefix = client, bucket, prefix
        self.most_bytes = most_bytes

    @property
    def uri(self) -> str:
        """`s3://bucket[/prefix]`."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def find(self, key: str) -> StoredObject | None:
        """Read a key.

        :raises InvalidRecordError: if its writer made an object that cannot be read: it is greater
            than `most_bytes`, archived, or encrypted with a key of the writer's own.
        """
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)
            if self.most_bytes is None or answer["ContentLength"] <= self.most_bytes:
                return StoredObject(answer["Body"].read(), answer["ETag"])
            answer["Body"].close()
        except Exception as error:  # botocore's errors, see the module
            if error_code(error) in ("NoSuchKey", "404"):
                return None
            if error_code(error) in UNREADABLE:
                raise InvalidRecordError(f"{self.uri}/{key}", f"cannot be read: {error}") from error
            raise self._unavailable(key, error) from error
        raise InvalidRecordError(
            f"{self.uri}/{key}",
            f"has {answer['ContentLength']:,} bytes, and at most {self.most_bytes:,} are read",
        )

    def read_from(self, key: str, offset: int) -> bytes:
        """Read a key's bytes from an offset on, and transfer only those, at most `most_bytes`."""
        last = "" if self.most_bytes is None else offset + self.most_bytes - 1
        try:
            return bytes(
                self.client.get_object(
                    Bucket=self.bucket, Key=self.prefix + key, Range=f"bytes={offset}-{last}"
                )["Body"].read()
            )
        except Exception as error:  # botocore's errors, see the module
            if error_code(error) in ("NoSuchKey", "404", "InvalidRange", "416"):
                return b""
            raise self._unavailable(key, error) from error

    def put(
        self, key: str, data: bytes, *, if_match: str | None = None, if_none_match: bool = False
    ) -> str:
        """Write a key, whole or not at all.

        S3 answers 409 if two conditional writes collide. Then the write is tried again. It answers
        412 if the condition does not hold. Then the key is read back, because an earlier try of
        this write may have taken effect.

        Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """
        request: PutObjectRequestTypeDef = {
            "Bucket": self.bucket,
            "Key": self.prefix + key,
            "Body": data,
        }
        condition = ""
        if if_match is not None:
            condition = "If-Match"
            request["IfMatch"] = if_match
        elif if_none_match:
            condition = "If-None-Match"
            request["IfNoneMatch"] = "*"

        for _ in range(5):
            try:
                return self.client.put_object(**request)["ETag"]
            except Exception as error:  # botocore's errors, see the module
                code = error_code(error)
                if condition and code in ("PreconditionFailed", "412", "NoSuchKey", "404"):
                    found = self.find(key)
                    if found is not None and found.data == data:
                        return found.etag  # an earlier try of this write had taken effect
                    raise PreconditionFailedError(f"{self.uri}/{key}", condition) from error
                if code not in ("ConditionalRequestConflict", "409"):
                    raise self._unavailable(key, error) from error
        raise StoreUnavailableError(
            f"{self.uri}/{key}",
            "five tries of a conditional write collided with other writes",
        )

    def put_pieces(self, key: str, pieces: Pieces, sha256: str) -> None:
        """Write a key from pieces of memory, without joining them first.

        S3 refuses the bytes if their digest is not `sha256`. The memory is hashed again afterwards,
        because other servers may not compare digests: memory that has not changed by then was sent
        unchanged.

        :raises ChangedPiecesError: if the memory changed meanwhile.
        """
        body, checksum = PiecesReader(pieces), base64.b64encode(bytes.fromhex(sha256)).decode()
        failure: Exception | None = None
        try:
            self.client.put_object(
                Bucket=self.bucket,
                Key=self.prefix + key,
                Body=cast("IO[bytes]", body),
                ContentLength=len(body),
                ChecksumSHA256=checksum,
            )
        except Exception as error:  # botocore's errors, see the module
            failure = error
        if digest_of(pieces) != sha256:
            raise ChangedPiecesError(f"{self.uri}/{key}") from failure
        if failure is not None:
            raise self._unavailable(key, failure) from failure

    def read_through(self, key: str, consume: Callable[[Reader], T]) -> T:
        """Call `consume` with the key's bytes while they arrive, and return the result.

        :raises MissingObjectError: if the key does not exist.
        :raises StoreUnavailableError: if the transfer fails.
        """
        try:
            body = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"]
        except Exception as error:  # botocore's errors, see the module
            if error_code(error) in ("NoSuchKey", "404"):
                raise MissingObjectError(f"{self.uri}/{key}") from error
            raise self._unavailable(key, error) from error
        with contextlib.closing(body):
            return consume(_Arriving(body, functools.partial(self._unavailable, key)))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List the keys that begin with a prefix, sorted, a thousand per request."""
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
        except Exception as error:  # botocore's errors, see the module
            raise self._unavailable(prefix, error) from error

    def delete(self, key: str) -> None:
        """Delete a key. In a versioned bucket this puts a delete marker over it."""
        try:
            self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key)
        except Exception as error:  # botocore's errors, see the module
            raise self._unavailable(key, error) from error

    def _unavailable(self, key: str, error: Exception) -> StoreUnavailableError:
        refused = error_code(error) and not may_pass(error)
        kind = StoreRefusedError if refused else StoreUnavailableError
        return kind(f"{self.uri}/{key}", f"{type(error).__name__}: {error}".splitlines()[0])


class _Arriving:
    """The body of an answer. Its errors are reported as :class:`StoreUnavailableError`."""

    def __init__(self, body: Reader, failure: Callable[[Exception], StoreUnavailableError]) -> None:
        self._body, self._failure = body, failure

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes; empty at the end."""
        try:
            return bytes(self._body.read(size))
        except Exception as error:  # botocore's and urllib3's errors, see the module
            raise self._failure(error) from error


def split_s3_uri(uri: str) -> tuple[str, str]:
    """Split `s3://bucket/prefix` into a bucket and a prefix that is empty or ends with a slash.

    Every character after the bucket belongs to the prefix, as in keys of S3, also `#`, `?` and `%`.

    >>> split_s3_uri("s3://lake/team/a"), split_s3_uri("s3://lake/run#1?x=%20")
    (('lake', 'team/a/'), ('lake', 'run#1?x=%20/'))
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    prefix = key.strip("/")
    return bucket, f"{prefix}/" if prefix else ""
