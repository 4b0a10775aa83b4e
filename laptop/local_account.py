"""Start and use the local AWS, only through its command line."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from laptop.errors import StepFailedError
from laptop.places import ROOT

#: The variables through which an AWS client could find a real account.
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

    :raises StepFailedError: if the command fails, with the last line that it printed.
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
    """Return the variables with which every AWS client uses the local AWS.

    :param role: a role of `local_aws env --as`. None means the role of the Airflow worker.
    :param base: the variables to change. None means those of this process. Variables that lead to a
        real account are removed.
    """
    answer = call("env", *(("--as", role) if role else ()))
    inherited = dict(os.environ if base is None else base)
    for name in (*AWS_VARIABLES, *answer["unset"]):
        inherited.pop(name, None)
    return inherited | {key: str(value) for key, value in answer["set"].items()}
