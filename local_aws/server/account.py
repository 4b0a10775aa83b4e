"""What a new account holds: an administrator, the Airflow worker's role, and what AWS publishes in
every region.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from pathlib import Path
from typing import Any

from local_aws.ec2 import images
from local_aws.emulator import inproc, seams

ADMINISTRATOR = "administrator"
WORKER = "airflow-worker"
TASKS = "ecs-tasks.amazonaws.com"


def trust_policy(service: str) -> str:
    """Return the trust policy that lets a service assume a role."""
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def seed(region: str) -> None:
    """Create what is missing; change nothing that is there."""
    iam = inproc.client("iam", region)
    _ensure_role(
        iam,
        ADMINISTRATOR,
        "Everything is allowed to it: for looking around, never for the pipeline.",
    )
    everything = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
    }
    iam.put_role_policy(
        RoleName=ADMINISTRATOR, PolicyName="everything", PolicyDocument=json.dumps(everything)
    )
    _ensure_role(
        iam, WORKER, "The Airflow worker's task role; the identity stack attaches its policy."
    )
    _publish_images(region)


def _ensure_role(iam: Any, name: str, description: str) -> None:
    """Create a role that container tasks may assume, unless it exists."""
    try:
        iam.create_role(
            RoleName=name, AssumeRolePolicyDocument=trust_policy(TASKS), Description=description
        )
    except iam.exceptions.EntityAlreadyExistsException:
        return


def _publish_images(region: str) -> None:
    """Publish the machine images' ids as AWS does, in every account and outside of it."""
    published = seams.seam("services.ssm", "_PUBLIC_AMI_PARAMETERS")
    published.clear()
    published.update(images.parameters(region))


class Grants:
    """Tokens that let a local process ask for a role's credentials; the same after a restart.

    :param path: the secret they are made from, readable by the owner only.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(32))
        self._secret = path.read_text().encode()

    def token(self, role_name: str) -> str:
        """Return the token of a role."""
        return hmac.new(self._secret, role_name.encode(), hashlib.sha256).hexdigest()

    def is_valid(self, role_name: str, token: str) -> bool:
        """Say whether a token is a role's."""
        return hmac.compare_digest(self.token(role_name), token)
