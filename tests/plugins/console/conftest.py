"""Airflow's real application with our plugin, over a bucket in a folder."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.dags.scheduled_runs import prepare_database
from tests.plugins.console.stored_console import NOW, CountingStore, OpenedFolder, write_bucket
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
    prepare_database()
    from airflow import plugins_manager
    from airflow.api_fastapi.app import create_app, purge_cached_app

    from rl_airflow.console import app
    from rl_airflow.console.environments import Environments

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__AUTH_MANAGER", AUTH_MANAGER)
        patch.setattr(app, "Environments", lambda: Environments(OpenedFolder(bucket, ec2)))
        patch.setattr(app, "utc_now", lambda: NOW)
        plugins_manager._get_plugins.cache_clear()
        plugins_manager.get_fastapi_plugins.cache_clear()
        purge_cached_app()
        yield create_app(apps="core")
        purge_cached_app()
    plugins_manager._get_plugins.cache_clear()
    plugins_manager.get_fastapi_plugins.cache_clear()
