"""One local AWS with the real functions, for code that attacks them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra_bootstrap.stacks.concerns import Concern
from tests.foreign_code.places import FunctionsUnderTest
from tests.infra_bootstrap.accounts import Account


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses the local AWS."""
    for item in items:
        if "functions" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.local_aws)


@pytest.fixture(scope="session")
def deployed_functions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FunctionsUnderTest]:
    """The identity, storage and evaluation stacks, with the functions of this repository."""
    account = Account(tmp_path_factory.mktemp("functions") / "state")
    with account.reachable():
        made = FunctionsUnderTest(account)
        made.deploy((Concern.IDENTITY,), (Concern.STORAGE,), (Concern.EVALUATION,))
    yield made
    account.down()


@pytest.fixture
def functions(deployed_functions: FunctionsUnderTest) -> Iterator[FunctionsUnderTest]:
    """The deployed functions, with clients that point at their account."""
    with deployed_functions.account.reachable():
        yield deployed_functions
