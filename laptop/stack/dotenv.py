"""The `.env` of the stack on this host: new secrets at the first start, kept for the next ones."""

import base64
import os
import re
import secrets
from pathlib import Path

#: The bucket for task logs in the local AWS.
LOG_BUCKET = "nightshift-airflow-logs"


def load_variables(file: Path, example: Path, base_url: str) -> dict[str, str]:
    """Read the variables, or make them for every name in `.env.example`.

    :param base_url: where people open Airflow.
    """
    if not file.exists():
        names = re.findall(r"^(\w+)=$", example.read_text(encoding="utf-8"), re.M)
        made = {name: _make(name) for name in names} | {
            "AIRFLOW_BASE_URL": base_url,
            "AIRFLOW_LOG_FOLDER": f"s3://{LOG_BUCKET}/nightshift",
            "AWS_REGION": "eu-west-1",
        }
        file.touch(mode=0o600)
        file.write_text("".join(f"{name}={value}\n" for name, value in made.items()))
    lines = file.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"\w+=", line))


def _make(name: str) -> str:
    """Make a secret as `.env.example` says. Other variables are empty."""
    if name == "AIRFLOW_FERNET_KEY":
        return base64.urlsafe_b64encode(os.urandom(32)).decode()
    if re.search(r"PASSWORD|API_SECRET_KEY|JWT_SECRET", name):
        return secrets.token_urlsafe(48)
    return ""
