"""The environment variables with which a shell uses the local AWS as a role.

Variables that could lead to real AWS keys are removed from the shell.
"""

from __future__ import annotations

import shlex
from typing import Any

from local_aws.commands.control import ask
from local_aws.state_folder import Running

WORKER_ROLE = "airflow-worker"
SHORT_NAMES = ("launcher", "promoter", "trainer", "evaluator", "reaper", "viewer", "deployer")
REMOVED = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
)
"""AWS clients look at each of these before they ask for the container's credentials:
https://boto3.amazonaws.com/v1/documentation/api/latest/guide/credentials.html"""


def role_name(given: str | None, environment: str) -> str:
    """Return the full name of a role, given its full or its short name.

    >>> role_name("launcher", "dev"), role_name(None, "dev"), role_name("administrator", "dev")
    ('nightshift-dev-launcher', 'airflow-worker', 'administrator')
    """
    if given is None:
        return WORKER_ROLE
    return f"nightshift-{environment}-{given}" if given in SHORT_NAMES else given


def variables(running: Running, role: str) -> dict[str, str]:
    """Return the variables that give any AWS client credentials of a role, which renew themselves.

    :raises LocalAwsError: if the account has no such role.
    """
    grant = ask(running, "grants", {"role": role})
    return {
        "AWS_ENDPOINT_URL": running.endpoint_url,
        "AWS_REGION": running.region,
        "AWS_DEFAULT_REGION": running.region,
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{running.endpoint_url}/_local/credentials/{role}",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": str(grant["token"]),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }


def as_shell(setting: dict[str, str]) -> str:
    """Format the variables as lines for `eval "$(python -m local_aws env)"`.

    >>> print(as_shell({"A": "b c"}).splitlines()[-1])
    export A='b c'
    """
    return "\n".join(
        [
            f"unset {' '.join(REMOVED)}",
            *(f"export {k}={shlex.quote(v)}" for k, v in setting.items()),
        ]
    )


def as_object(setting: dict[str, str]) -> dict[str, Any]:
    """Return the variables to set and to unset, for programs."""
    return {"set": setting, "unset": list(REMOVED)}
