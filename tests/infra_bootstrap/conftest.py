"""One local AWS for each test process, and one environment in it that the tests read but do not
change.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.infra_bootstrap.accounts import Account, Deployment


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses the local AWS."""
    for item in items:
        if {"account", "dev", "fresh"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.local_aws)


@pytest.fixture(scope="session")
def running_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """A local AWS that the tests of one process share."""
    account = Account(tmp_path_factory.mktemp("infra") / "state")
    yield account
    account.down()


@pytest.fixture(scope="session")
def deployed(running_account: Account) -> Deployment:
    """The environment `dev`, deployed by an administrator."""
    deployment = Deployment(running_account)
    with running_account.reachable():
        deployment.deploy()
    return deployment


@pytest.fixture
def account(running_account: Account) -> Iterator[Account]:
    """The local AWS, with clients that point at it."""
    with running_account.reachable():
        yield running_account


@pytest.fixture
def dev(account: Account, deployed: Deployment) -> Deployment:
    """The deployed environment; a test must undo its changes to it."""
    assert account is deployed.account
    return deployed


@pytest.fixture
def fresh(account: Account, request: pytest.FixtureRequest) -> Deployment:
    """An environment for this test alone, of which nothing exists yet."""
    words = [
        word
        for word in request.node.name.replace("[", "_").split("_")
        if word not in ("test", "a", "the")
    ]
    return Deployment(
        account, environment=("t-" + "".join(word[:3] for word in words))[:18].rstrip("-")
    )
