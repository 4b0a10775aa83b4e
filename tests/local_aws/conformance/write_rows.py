"""Rows about conditional writes to S3 that are repeated or race with each other.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.local_aws.conformance.account import Account, Seen, code_or

WRITERS = 8
LOST = {"PreconditionFailed", "ConditionalRequestConflict"}
"""What the losers of a race may get; after a 409, a client tries again."""


def repeated_creation(account: Account) -> Seen:
    """A repeated write with the same body is refused, although its first try took effect.

    So a client whose answer was lost must read the key back.
    """
    s3, bucket = account.bucket()
    write = {"Bucket": bucket, "Key": "x", "Body": b"same", "IfNoneMatch": "*"}
    s3.put_object(**write)
    code = code_or(s3.put_object, **write)
    return Seen(code == "PreconditionFailed", code or "the write succeeded again")


def repeated_move(account: Account) -> Seen:
    """A repeated move with the ETag from before is refused, although its first try took effect."""
    s3, bucket = account.bucket()
    before = s3.put_object(Bucket=bucket, Key="x", Body=b"before")["ETag"]
    move = {"Bucket": bucket, "Key": "x", "Body": b"after", "IfMatch": before}
    s3.put_object(**move)
    code = code_or(s3.put_object, **move)
    return Seen(code == "PreconditionFailed", code or "the write succeeded again")


def racing_creations(account: Account) -> Seen:
    """Of several writers at once, one creates the key."""
    s3, bucket = account.bucket()

    def write(number: int) -> str:
        return code_or(
            s3.put_object, Bucket=bucket, Key="x", Body=str(number).encode(), IfNoneMatch="*"
        )

    return _judged(write)


def racing_moves(account: Account) -> Seen:
    """Of several writers that compare with the same ETag, one moves the key."""
    s3, bucket = account.bucket()
    before = s3.put_object(Bucket=bucket, Key="x", Body=b"before")["ETag"]

    def write(number: int) -> str:
        return code_or(
            s3.put_object, Bucket=bucket, Key="x", Body=str(number).encode(), IfMatch=before
        )

    return _judged(write)


def _judged(write: object) -> Seen:
    """Let all writers write at once, and say how many won and what the others got."""
    with ThreadPoolExecutor(WRITERS) as pool:
        codes = list(pool.map(write, range(WRITERS)))  # type: ignore[arg-type]
    told = ", ".join(f"{codes.count(code)} x {code or 'written'}" for code in sorted(set(codes)))
    return Seen(codes.count("") == 1 and set(codes) - {""} <= LOST, told)
