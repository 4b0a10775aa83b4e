"""Rows about S3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import requests

from tests.local_aws.conformance.account import Account
from tests.local_aws.conftest import code_of


def if_none_match(account: Account) -> bool:
    """The second writer of a key is refused."""
    s3, bucket = account.bucket()
    s3.put_object(Bucket=bucket, Key="x", Body=b"1", IfNoneMatch="*")
    return (
        code_of(s3.put_object, Bucket=bucket, Key="x", Body=b"2", IfNoneMatch="*")
        == "PreconditionFailed"
    )


def if_match(account: Account) -> bool:
    """A write with an old ETag is refused; for a missing key, the error says so."""
    s3, bucket = account.bucket()
    tag = s3.put_object(Bucket=bucket, Key="x", Body=b"1")["ETag"]
    s3.put_object(Bucket=bucket, Key="x", Body=b"2", IfMatch=tag)
    stale = code_of(s3.put_object, Bucket=bucket, Key="x", Body=b"3", IfMatch=tag)
    return (stale, code_of(s3.put_object, Bucket=bucket, Key="absent", Body=b"", IfMatch=tag)) == (
        "PreconditionFailed",
        "NoSuchKey",
    )


def listing_is_sorted(account: Account) -> bool:
    """Keys are sorted by their bytes; each appears once over all pages."""
    s3, bucket = account.bucket()
    keys = ["b", "a/2", "a/10", "A", "a/1"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 2}
    )
    return [o["Key"] for page in pages for o in page["Contents"]] == sorted(keys)


def common_prefixes(account: Account) -> bool:
    """A delimiter groups the keys below it."""
    s3, bucket = account.bucket()
    for key in ("a/1", "a/2", "b"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    found = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    return (
        [p["Prefix"] for p in found["CommonPrefixes"]],
        [o["Key"] for o in found["Contents"]],
    ) == (["a/"], ["b"])


def full_bucket(account: Account) -> bool:
    """A bucket with an object is not deleted."""
    s3, bucket = account.bucket()
    s3.put_object(Bucket=bucket, Key="x", Body=b"")
    return code_of(s3.delete_bucket, Bucket=bucket) == "BucketNotEmpty"


def checksum(account: Account) -> bool:
    """A body with another digest than announced is refused."""
    s3, bucket = account.bucket()
    return (
        code_of(
            s3.put_object, Bucket=bucket, Key="x", Body=b"x", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg=="
        )
        == "BadDigest"
    )


def range_read(account: Account) -> bool:
    """A range is answered with 206 and that part."""
    s3, bucket = account.bucket()
    s3.put_object(Bucket=bucket, Key="x", Body=b"0123456789")
    found = s3.get_object(Bucket=bucket, Key="x", Range="bytes=2-4")
    return (found["ResponseMetadata"]["HTTPStatusCode"], found["Body"].read()) == (206, b"234")


def presigned(account: Account) -> bool:
    """A presigned URL gives access to one object."""
    s3, bucket = account.bucket()
    s3.put_object(Bucket=bucket, Key="x", Body=b"x")
    url = s3.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": "x"}, ExpiresIn=60
    )
    return requests.get(url, timeout=10).content == b"x"


def bucket_refuses(call: str, code: str, **arguments: Any) -> Callable[[Account], bool]:
    """Return a row that makes one call on an empty bucket, which must be refused with a code."""

    def row(account: Account) -> bool:
        s3, bucket = account.bucket()
        return code_of(getattr(s3, call), Bucket=bucket, **arguments) == code

    return row


def range_beyond(account: Account) -> bool:
    """A range that begins after the end is refused."""
    s3, bucket = account.bucket()
    s3.put_object(Bucket=bucket, Key="x", Body=b"0123")
    return code_of(s3.get_object, Bucket=bucket, Key="x", Range="bytes=9-") == "InvalidRange"
