"""The result of a preflight check, and what a check is given."""

from enum import StrEnum
from typing import NamedTuple

from infra_bootstrap.clients import Clients
from infra_bootstrap.stacks.settings import DeploymentSettings
from rl_lifecycle.records.record import Record


class CheckResult(StrEnum):
    """How a check ended."""

    GOOD = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Check(Record):
    """One line of the preflight's table. A check returns one line or several.

    :param found: what the check saw, for a person.
    :param fix: what to do. It is empty if nothing has to be done.
    """

    name: str
    verdict: CheckResult
    found: str
    fix: str = ""


class Situation(NamedTuple):
    """What a check is given: the caller's clients, and the settings of the planned deployment."""

    clients: Clients
    settings: DeploymentSettings
