"""The same documented behaviours asked of moto: where the two differ, AWS's documentation says who
is right, and both are listed.

A row that moto does and the local AWS does not is something to learn from moto, and is among the
rows not met.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws

from .conftest import QUICK, ROOT
from .test_conformance import TABLE, Account, Row, _holds, unmet

REGION = "eu-west-1"


@pytest.fixture
def moto_account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """An account of moto's in this process: nothing is sent anywhere."""
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        session = boto3.Session("AKIAMOTO", "moto", "moto", REGION)
        made = Account(lambda service: session.client(service, config=QUICK), REGION)  # type: ignore[call-overload]
        yield made


def listed() -> set[str]:
    """Return the rows that docs/local-aws.md says moto does not do."""
    section = (
        (ROOT / "docs" / "local-aws.md")
        .read_text()
        .partition("### Where moto differs")[2]
        .partition("\n##")[0]
    )
    return set(re.findall(r"`([^`]+)`", section))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name.replace(" ", "-"))
def test_moto_does_what_the_documentation_says_it_does(moto_account: Account, row: Row) -> None:
    """Each row holds on moto, too, but for those that are listed; so a difference between the two
    never goes unseen.
    """
    try:
        holds = bool(_holds(row, moto_account))
    except Exception:
        holds = False  # what moto does not have at all
    assert holds == (row.name not in listed()), row.source


def test_the_list_names_rows() -> None:
    """A row that was renamed leaves the list, and none is missed by both: nobody would know what
    AWS does.
    """
    assert listed() <= {row.name for row in TABLE}
    assert not listed() & unmet()
