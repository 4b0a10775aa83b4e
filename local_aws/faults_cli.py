"""``python -m local_aws fault``: the command's arguments, and what it prints."""

from __future__ import annotations

import argparse
from typing import Any

from local_aws.control import ask
from local_aws.state import Running


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe ``fault list|add|clear|run``."""


def run(arguments: argparse.Namespace, running: Running) -> dict[str, Any]:
    """Send the order to the server."""
    return ask(running, "faults")


def show(answer: dict[str, Any]) -> str:
    """List the faults that are set."""
    return "\n".join(f"{f['id']} {f['kind']}" for f in answer.get("faults", [])) or "no faults"
