"""Write one file about a smoke run that a person can attach to a bug report.

The file has the calls, the errors, the denials, the versions and the times. It has no credentials
and no account id, because bug reports are public. Request ids and the ids of resources stay: AWS's
support can find a call by them, and they say nothing without the account.
"""

import json
import os
import platform
import re
import sys
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from infra_bootstrap.artifacts.locks import ROOT
from infra_bootstrap.clients import Clients
from infra_bootstrap.commands.denials import shorten

PACKAGES = ("boto3", "botocore", "pydantic")
#: What stands for an account id. It is the account of AWS's own examples.
SOME_ACCOUNT = "123456789012"
HIDDEN = "(hidden)"
#: Access keys of users and of sessions, keys that follow a word for them, and mail addresses.
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids
SECRETS = (
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b"),
    re.compile(r"(?i)(?<=secret)[\w ]{0,20}[=:]\s*\S+"),
    re.compile(r"(?i)(?<=token)[\w ]{0,20}[=:]\s*\S+"),
    re.compile(r"(?i)(?<=password)[\w ]{0,20}[=:]\s*\S+"),
    re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+"),
)


class Story(NamedTuple):
    """What a smoke run did.

    :param errors: what went wrong, the first error first. It is empty if nothing did.
    :param denials: explanations of the calls that AWS denied.
    """

    environment: str
    began_at: datetime
    seconds: dict[str, float]
    errors: list[str]
    denials: list[str]
    answer: dict[str, Any]


def report_folder() -> Path:
    """Return the folder that NIGHTSHIFT_STATE names, else `.nightshift` in the project."""
    named = os.environ.get("NIGHTSHIFT_STATE")
    return Path(named) if named else ROOT / ".nightshift"


def write_bug_report(clients: Clients, story: Story, folder: Path | None = None) -> Path:
    """Write the file into a folder. :return: its path."""
    folder = folder or report_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"smoke-{story.began_at:%Y%m%dT%H%M%S}.json"
    report = redact(compose(clients, story), _secrets_of(clients), clients.account_id)
    path.write_text(json.dumps(report, indent=2) + "\n")
    return path


def compose(clients: Clients, story: Story) -> dict[str, Any]:
    """Put the report together. It is not redacted yet."""
    return {
        "schema_version": 1,
        "run": "smoke",
        "result": "failed" if story.errors else "succeeded",
        "errors": [shorten(error) for error in story.errors],
        "denials": [shorten(denial) for denial in story.denials],
        "environment": story.environment,
        "region": clients.region,
        "partition": clients.partition,
        "began_at": story.began_at.isoformat(),
        "seconds": story.seconds,
        "versions": {
            "python": platform.python_version(),
            "system": f"{sys.platform} {platform.machine()}",
            **{name: _version(name) for name in PACKAGES},
        },
        "calls": clients.calls.as_list(),
        "failed_calls": [
            asdict(call) | {"message": shorten(call.message)} for call in clients.calls.failures
        ],
        "answer": story.answer,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _secrets_of(clients: Clients) -> list[str]:
    """Return the caller's own credentials, so that they can be looked for."""
    found = clients.session.get_credentials()
    if found is None:
        return []
    frozen = found.get_frozen_credentials()
    return [value for value in (frozen.access_key, frozen.secret_key, frozen.token) if value]


def redact(value: Any, secrets: list[str], account_id: str) -> Any:
    """Hide secrets and the account's id in every text of a value.

    >>> redact(["AKIAIOSFODNN7EXAMPLE of arn:aws:iam::999999999999:user/x"], [], "999999999999")
    ['(hidden) of arn:aws:iam::123456789012:user/x']
    """
    if isinstance(value, dict):
        return {
            redact(key, secrets, account_id): redact(item, secrets, account_id)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redact(item, secrets, account_id) for item in value]
    if not isinstance(value, str):
        return value
    for secret in secrets:
        value = value.replace(secret, HIDDEN)
    for pattern in SECRETS:
        value = pattern.sub(HIDDEN, value)
    return value.replace(account_id, SOME_ACCOUNT)
