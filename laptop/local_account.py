"""Start, find and leave the local AWS, by its command line alone."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from laptop.errors import StepFailedError
from laptop.places import ROOT

#: Everything by which an AWS client could find a real account.
AWS_VARIABLES = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)


def call(*arguments: str) -> dict[str, Any]:
    """Run a command of the local AWS and read its JSON.

    :raises StepFailedError: with the command's own line.
    """
    done = subprocess.run(
        [sys.executable, "-m", "local_aws", *arguments, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [
            f"exit code {done.returncode}"
        ]
        raise StepFailedError(f"local AWS {arguments[0]}", lines[-1], "make clean, then try again")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def environment(role: str | None = None, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment that points any AWS client at the local AWS.

    :param role: None: the role of the Airflow worker; else as `local_aws env --as` takes it.
    :param base: what it is laid over; None: this process's environment, less all that leads to a
        real account.
    """
    answer = call("env", *(("--as", role) if role else ()))
    inherited = dict(os.environ if base is None else base)
    for name in (*AWS_VARIABLES, *answer["unset"]):
        inherited.pop(name, None)
    return inherited | {key: str(value) for key, value in answer["set"].items()}
