"""Delete the bucket with everything in it, while nothing new can be written into it.

The stack's deletion keeps the bucket and its policy, so the order is: the stack, the lock, the
objects, the bucket. Each step can be repeated, so a deletion that was interrupted anywhere goes on
from there. The lock stays until the bucket is gone.
"""

import json
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from infra_bootstrap.clients import Clients, code_of, is_missing, refused_or_same
from infra_bootstrap.deployment.deletion import delays
from infra_bootstrap.errors import AccessRefusedError, BucketNotEmptiedError

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import ErrorTypeDef, ObjectIdentifierTypeDef

#: A bucket policy may take a moment until every request meets it, so a late writer may still add an
#: object, and the bucket is emptied again.
EMPTY_WITHIN_S = 300.0
#: Errors of single objects that do not go away when the request is sent again.
#: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
LASTING = ("AccessDenied", "AllAccessDisabled", "InvalidArgument", "MethodNotAllowed")


def delete_bucket(
    clients: Clients,
    bucket: str,
    command: str,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Lock writers out, delete every version of every object, and delete the bucket.

    This cannot be undone.

    :param command: the command that continues, for messages.
    :return: whether there was a bucket.
    :raises AccessRefusedError: if the caller may not do it.
    :raises BucketNotEmptiedError: if the bucket is not empty in the end.
    """
    if not lock_bucket(clients, bucket):
        return False
    problem = "something was still written into it"
    for delay in delays(EMPTY_WITHIN_S):
        failed = empty_bucket(clients, bucket)
        if failed:
            problem = f"S3 answered {failed[0].get('Code')} for {failed[0].get('Key')}"
        elif _delete(clients, bucket):
            return True
        sleep(delay)
    raise BucketNotEmptiedError(bucket, problem, command)


def lock_bucket(clients: Clients, bucket: str) -> bool:
    """Replace the bucket's policy by one that lets nothing be written and everything be deleted.

    `s3:PutObject` is also the permission to copy, and to begin and to complete a multipart upload.
    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html

    :return: whether there is a bucket.
    """
    statements = [
        {
            "Sid": "NothingIsWrittenWhileTheBucketIsDeleted",
            "Effect": "Deny",
            "Principal": "*",
            "Action": ["s3:PutObject", "s3:ReplicateObject"],
            "Resource": f"arn:{clients.partition}:s3:::{bucket}/*",
        },
        {
            "Sid": "TlsOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [
                f"arn:{clients.partition}:s3:::{bucket}",
                f"arn:{clients.partition}:s3:::{bucket}/*",
            ],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        },
    ]
    try:
        clients.s3.put_bucket_policy(
            Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": statements})
        )
    except ClientError as error:
        if is_missing(error):
            return False
        raise refused_or_same(error, f"s3:PutBucketPolicy {bucket}") from error
    return True


def empty_bucket(clients: Clients, bucket: str) -> "list[ErrorTypeDef]":
    """Delete every version of every object once. This cannot be undone.

    :return: what S3 could not delete now. A later try may succeed.
    :raises AccessRefusedError: if an object may not be deleted, such as one with a legal hold.
    """
    failed: list[ErrorTypeDef] = []
    try:
        for found in _pages(clients, bucket):
            # The answer is 200 even if an object was not deleted; `Errors` has those objects.
            # https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
            answer = clients.s3.delete_objects(
                Bucket=bucket, Delete={"Objects": found, "Quiet": True}
            )
            failed += answer.get("Errors", ())
    except ClientError as error:
        if is_missing(error):
            return []
        raise refused_or_same(error, f"emptying {bucket}") from error
    for problem in failed:
        if problem.get("Code") in LASTING:
            raise AccessRefusedError(
                f"s3:DeleteObjectVersion {bucket}/{problem.get('Key')}",
                f"{problem.get('Code')}: {problem.get('Message', '')}",
            )
    return failed


def _pages(clients: Clients, bucket: str) -> "Iterator[list[ObjectIdentifierTypeDef]]":
    """List the versions and delete markers of all objects, at most 1,000 at a time."""
    for page in clients.s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        found: list[ObjectIdentifierTypeDef] = [
            {"Key": item["Key"], "VersionId": item["VersionId"]}
            for item in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
        ]
        if found:
            yield found


def _delete(clients: Clients, bucket: str) -> bool:
    """Delete an empty bucket. :return: False if it is not empty after all."""
    try:
        clients.s3.delete_bucket(Bucket=bucket)
    except ClientError as error:
        if is_missing(error):
            return True
        if code_of(error) == "BucketNotEmpty":
            return False
        raise refused_or_same(error, f"s3:DeleteBucket {bucket}") from error
    return True
