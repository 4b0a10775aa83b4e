"""Act on a local AWS as an environment's roles, which trust only services."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3

from laptop import local_account


class Roles:
    """Clients of roles, each created once.

    :param environment: the environment of the roles
    """

    def __init__(self, environment: str = "dev") -> None:
        self.prefix = f"nightshift-{environment}-"
        self.variables = local_account.call("env", "--as", "administrator")["set"]
        request = urllib.request.Request(
            self.variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"],
            headers={"Authorization": self.variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"]},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            keys = json.loads(answer.read())
        self._administrator = self._session(keys["AccessKeyId"], keys["SecretAccessKey"], keys)
        self._sessions: dict[str, boto3.Session] = {}

    def client(self, role: str, service: str) -> Any:
        """Return a client of a role, by its short name such as `launcher`."""
        if role not in self._sessions:
            self._sessions[role] = self._become(self.prefix + role)
        return self._client(self._sessions[role], service)

    @contextmanager
    def writing_all_evaluations(self) -> Iterator[None]:
        """Let the evaluator write as it did before reports had a class of their own."""
        iam, name = self._client(self._administrator, "iam"), f"{self.prefix}evaluator"
        allowed = {
            "Effect": "Allow",
            "Action": "s3:PutObject",
            "Resource": "arn:aws:s3:::nightshift-*/evaluations/*",
        }
        document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        iam.put_role_policy(RoleName=name, PolicyName="before", PolicyDocument=document)
        try:
            yield
        finally:
            iam.delete_role_policy(RoleName=name, PolicyName="before")

    def _become(self, name: str) -> boto3.Session:
        """Widen the role's trust policy for one call."""
        iam = self._client(self._administrator, "iam")
        role = iam.get_role(RoleName=name)["Role"]
        trust, account = role["AssumeRolePolicyDocument"], role["Arn"].split(":")[4]
        here = {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
            "Action": "sts:AssumeRole",
        }
        wide = {**trust, "Statement": [*trust["Statement"], here]}
        iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(wide))
        try:
            given = self._client(self._administrator, "sts").assume_role(
                RoleArn=role["Arn"], RoleSessionName="stored-night"
            )["Credentials"]
        finally:
            iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))
        return self._session(given["AccessKeyId"], given["SecretAccessKey"], given)

    def _session(self, key_id: str, secret: str, given: dict[str, str]) -> boto3.Session:
        token = given.get("SessionToken") or given["Token"]
        return boto3.Session(key_id, secret, token, self.variables["AWS_REGION"])

    def _client(self, session: boto3.Session, service: str) -> Any:
        return session.client(service, endpoint_url=self.variables["AWS_ENDPOINT_URL"])
