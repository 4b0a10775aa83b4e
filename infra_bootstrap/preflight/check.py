"""What a check of the preflight is: one line of its table, or several."""

from enum import StrEnum
from typing import NamedTuple

from infra_bootstrap.clients import Clients
from infra_bootstrap.stacks.settings import DeploymentSettings
from rl_lifecycle.records.record import Record


class CheckResult(StrEnum):
    """What a check found."""

    GOOD = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Check(Record):
    """One line of the table. :param fix: what to do; empty when nothing has to be done."""

    name: str
    verdict: CheckResult
    found: str
    fix: str = ""


class Situation(NamedTuple):
    """Who asks, and for what."""

    clients: Clients
    settings: DeploymentSettings
