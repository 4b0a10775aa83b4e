"""The same documented behaviours, checked against moto.

Where moto and the local AWS differ, AWS's documentation decides, and docs/local-aws.md lists the
row. A row that holds only on moto is listed among the rows not met.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws

from tests.local_aws.conformance.account import Account, Row
from tests.local_aws.conformance.table import BASIC
from tests.local_aws.conftest import QUICK, ROOT
from tests.local_aws.test_conformance import unmet

REGION = "eu-west-1"


@pytest.fixture
def moto_account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """An account of moto in this process; nothing is sent over the network."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        session = boto3.Session("AKIAMOTO", "moto", "moto", REGION)
        made = Account(lambda service: session.client(service, config=QUICK), REGION)  # type: ignore[call-overload]
        yield made


def listed() -> set[str]:
    """Return the rows that do not hold on moto, according to docs/local-aws.md."""
    section = (
        (ROOT / "docs" / "local-aws.md")
        .read_text()
        .partition("### Where moto differs")[2]
        .partition("\n##")[0]
    )
    return set(re.findall(r"`([^`]+)`", section))


@pytest.mark.parametrize("row", BASIC, ids=lambda row: row.name.replace(" ", "-"))
def test_moto_does_what_the_documentation_says_it_does(moto_account: Account, row: Row) -> None:
    """Each row holds on moto except the listed ones, so every difference is seen."""
    try:
        holds = row.look(moto_account).holds
    except Exception:
        holds = False  # what moto does not have at all
    assert holds == (row.name not in listed()), row.source


def test_the_list_names_rows() -> None:
    """The list names only existing rows, and no row fails on both."""
    assert listed() <= {row.name for row in BASIC}
    assert not listed() & unmet()
