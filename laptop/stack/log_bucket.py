"""Make the bucket of the task logs, and let two identities use it, as docs/team.md describes.

Run as the local AWS's administrator: `python -m laptop.stack.log_bucket WRITER READER BUCKET`.
"""

import json
import sys
from typing import Any

import boto3


def policy(bucket: str, *actions: str) -> str:
    """Return a policy for the objects of a bucket; whoever reads also lists."""
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Action": list(actions),
                    "Resource": f"arn:aws:s3:::{bucket}/*",
                },
                {
                    "Effect": "Allow",
                    "Action": "s3:ListBucket",
                    "Resource": f"arn:aws:s3:::{bucket}",
                },
            ],
        }
    )


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
    for role, actions in ((writer, ("s3:GetObject", "s3:PutObject")), (reader, ("s3:GetObject",))):
        iam.put_role_policy(
            RoleName=role, PolicyName="task-logs", PolicyDocument=policy(bucket, *actions)
        )


if __name__ == "__main__":
    prepare(*sys.argv[1:])
