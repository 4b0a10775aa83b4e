"""The first contents of an account: two roles, and the parameters that AWS publishes everywhere.

The roles are an administrator and the Airflow worker.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from local_aws.ec2 import images
from local_aws.emulator import inproc, seams

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

ADMINISTRATOR = "administrator"
WORKER = "airflow-worker"
TASKS = "ecs-tasks.amazonaws.com"


def trust_policy(service: str) -> str:
    """Return the trust policy that lets a service assume a role."""
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def seed(region: str) -> None:
    """Create the first roles and parameters where they are missing. Others stay as they are."""
    iam = inproc.client("iam", region)
    _ensure_role(
        iam,
        ADMINISTRATOR,
        "May do everything. For exploring the account, never for the pipeline.",
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


def _ensure_role(iam: IAMClient, name: str, description: str) -> None:
    """Create a role that container tasks may assume, unless the role exists."""
    try:
        iam.create_role(
            RoleName=name, AssumeRolePolicyDocument=trust_policy(TASKS), Description=description
        )
    except iam.exceptions.EntityAlreadyExistsException:
        return


def _publish_images(region: str) -> None:
    """Publish the ids of the machine images as public parameters, as AWS does in every account."""
    published = seams.seam("services.ssm", "_PUBLIC_AMI_PARAMETERS")
    published.clear()
    published.update(images.parameters(region))


class Grants:
    """Tokens with which a local process can ask for a role's credentials.

    A role's token stays the same after a restart.

    :param path: the file of the secret that the tokens are made from. Only the owner can read it.
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
        """Say whether a token belongs to a role."""
        return hmac.compare_digest(self.token(role_name), token)
