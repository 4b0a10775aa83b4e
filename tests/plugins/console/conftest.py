"""Airflow's real application with our plugin, over a bucket in a folder."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.plugins.console.stored_console import NOW, CountingStore, opened_app, write_bucket
from tests.plugins.fake_ec2 import FakeEc2

if TYPE_CHECKING:
    from fastapi import FastAPI

AUTH_MANAGER = "tests.plugins.console.restricted_access.RestrictedAuthManager"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> CountingStore:
    """A real night of the experiment `cartpole_ppo`."""
    return CountingStore(write_bucket(tmp_path_factory.mktemp("bucket"), "cartpole_ppo"))


@pytest.fixture(scope="module")
def ec2() -> FakeEc2:
    """EC2 without a machine."""
    return FakeEc2(lambda: NOW)


@pytest.fixture(scope="module")
def airflow_app(bucket: CountingStore, ec2: FakeEc2) -> Iterator["FastAPI"]:
    """Airflow's application, whose plugin serves the console over the bucket."""
    with opened_app(AUTH_MANAGER, bucket, ec2) as app:
        yield app
