"""Make the API server's identity and the bucket of the task logs, as docs/team.md describes.

Run as the local AWS's administrator:
`python -m laptop.stack.identities WORKER API_SERVER BUCKET ENVIRONMENT`.
"""

import json
import sys
from typing import Any

import boto3

from infra_bootstrap.clients import Clients
from infra_bootstrap.commands.airflow_policy import api_server_policy, log_policy


def prepare(worker: str, api_server: str, bucket: str, environment: str) -> None:
    """Make what is missing; it can be repeated.

    :param worker: the role of workers and triggerers, which exists.
    :param api_server: the role that the API server gets.
    :param bucket: of task logs, which the worker writes and the API server reads.
    :param environment: whose viewer the API server may become.
    """
    session = boto3.session.Session()
    s3: Any = session.client("s3")
    iam: Any = session.client("iam")
    if bucket not in [one["Name"] for one in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(
            Bucket=bucket,
            CreateBucketConfiguration={"LocationConstraint": session.region_name},
        )
    trust = iam.get_role(RoleName=worker)["Role"]["AssumeRolePolicyDocument"]
    if not any(
        role["RoleName"] == api_server
        for page in iam.get_paginator("list_roles").paginate()
        for role in page["Roles"]
    ):
        iam.create_role(RoleName=api_server, AssumeRolePolicyDocument=json.dumps(trust))
    for role, name, document in (
        (worker, "task-logs", log_policy("aws", bucket)),
        (api_server, "task-logs", log_policy("aws", bucket, read_only=True)),
        (api_server, "console", api_server_policy(Clients(session), environment)),
    ):
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document))


if __name__ == "__main__":
    prepare(*sys.argv[1:])
