"""Make the bucket of the task logs, and let two identities use it, as docs/team.md describes.

Run as the local AWS's administrator: `python -m laptop.stack.log_bucket WRITER READER BUCKET`.
"""

import json
import sys
from typing import Any

import boto3

from infra_bootstrap.commands.airflow_policy import log_policy


def prepare(writer: str, reader: str, bucket: str) -> None:
    """Make what is missing; it can be repeated."""
    session = boto3.session.Session()
    s3: Any = session.client("s3")
    iam: Any = session.client("iam")
    if bucket not in [one["Name"] for one in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(
            Bucket=bucket,
            CreateBucketConfiguration={"LocationConstraint": session.region_name},
        )
    trust = iam.get_role(RoleName=writer)["Role"]["AssumeRolePolicyDocument"]
    if not any(
        role["RoleName"] == reader
        for page in iam.get_paginator("list_roles").paginate()
        for role in page["Roles"]
    ):
        iam.create_role(RoleName=reader, AssumeRolePolicyDocument=json.dumps(trust))
    for role, read_only in ((writer, False), (reader, True)):
        document = log_policy("aws", bucket, read_only=read_only)
        iam.put_role_policy(
            RoleName=role, PolicyName="task-logs", PolicyDocument=json.dumps(document)
        )


if __name__ == "__main__":
    prepare(*sys.argv[1:])
