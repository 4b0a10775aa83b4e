"""The console over a stored night: Airflow's real application, and a folder as the bucket."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import tests.plugins.airflow_home
from rl_airflow.console.cached_store import CachedStore, KeptValues, ReadingPool
from rl_airflow.console.environments import ViewedEnvironment, ViewedPlace
from rl_airflow.machines.instances import Machines
from rl_lifecycle.errors import StoreRefusedError, StoreUnavailableError
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.object_store import ObjectInfo, ObjectStore, StoredObject
from tests.plugins.fake_ec2 import FakeEc2
from tests.stored_forms.night.restore import Clock, read_archive, rename

if TYPE_CHECKING:
    from fastapi import FastAPI

assert tests.plugins.airflow_home.HOME.is_dir()

#: When the stored night was in progress.
NOW = datetime(2026, 11, 29, 23, 10, tzinfo=UTC)
EXPERIMENT = "stored_night"
DAG_ID = f"retrain_{EXPERIMENT}"


@cache
def stored_objects(experiment: str = EXPERIMENT) -> dict[str, bytes]:
    """The bucket of a real night, without what the console may not read.

    :param experiment: the name that the experiment gets. Digests that follow from it are new.
    """
    unseen = ("checkpoints/", "policies/", "artifacts/", "buffers/")
    night = read_archive()
    names = {} if experiment == EXPERIMENT else {EXPERIMENT: experiment}
    objects, _ = rename(night.objects, names, Clock(night.facts["stopped_at"], NOW))
    seen = {key: data for key, data in objects.items() if not key.startswith(unseen)}
    return {
        key.replace(EXPERIMENT, experiment) if key.startswith("ledger/") else key: data
        for key, data in seen.items()
    }


def write_bucket(folder: Path, experiment: str = EXPERIMENT) -> DirectoryStore:
    """Write the stored night into a folder.

    Its files get times in the order of the runs, because the archive keeps none.
    """
    for key, data in stored_objects(experiment).items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        number = next((n for n in (1, 2, 3) if f"night-{n}" in key), 1)
        at = NOW.timestamp() - 3600 + 600 * number
        os.utime(path, (at, at))
    return DirectoryStore(folder)


class CountingStore:
    """A store that counts its requests, and can be away, slow or not ours."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.found: list[str] = []
        self.listed: list[str] = []
        self.away = self.refuses = False
        #: A slow store answers when this event is set.
        self.answers = threading.Event()
        self.answers.set()

    @property
    def uri(self) -> str:
        """The address of the store."""
        return self.store.uri

    def find(self, key: str) -> StoredObject | None:
        """Read a key."""
        self.found.append(key)
        self._answer(key)
        return self.store.find(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List keys."""
        self.listed.append(prefix)
        self._answer(prefix)
        return self.store.list(prefix)

    def put(self, key: str, data: bytes, **conditions: Any) -> str:
        """Write a key."""
        return self.store.put(key, data, **conditions)

    def delete(self, key: str) -> None:
        """Delete a key."""
        self.store.delete(key)

    def _answer(self, key: str) -> None:
        self.answers.wait(60)
        if self.refuses:
            raise StoreRefusedError(f"{self.uri}/{key}", "AccessDenied: not your bucket")
        if self.away:
            raise StoreUnavailableError(f"{self.uri}/{key}", "ConnectTimeoutError: no answer")


def view_of(store: ObjectStore, ec2: FakeEc2 | None = None) -> ViewedEnvironment:
    """An environment whose bucket is a store."""
    return ViewedEnvironment(
        "dev",
        CachedStore(store, KeptValues(), ReadingPool(4)),
        store,
        Machines(ec2 or FakeEc2(lambda: NOW), "dev"),
    )


class OpenedFolder:
    """Opens every environment as one store."""

    def __init__(self, store: ObjectStore, ec2: FakeEc2 | None = None) -> None:
        self.viewed = view_of(store, ec2)
        self.places: list[ViewedPlace] = []

    def __call__(
        self, place: ViewedPlace, kept: KeptValues, pool: ReadingPool
    ) -> ViewedEnvironment:
        """Open an environment."""
        del kept, pool
        self.places.append(place)
        return self.viewed


@contextmanager
def opened_app(auth_manager: str, store: ObjectStore, ec2: FakeEc2) -> Iterator["FastAPI"]:
    """Open Airflow's application, whose plugin serves the console over a store.

    :param auth_manager: the import path of its class.
    """
    from tests.dags.scheduled_runs import prepare_database

    with patch.dict(os.environ, AIRFLOW__CORE__AUTH_MANAGER=auth_manager):
        prepare_database()
        from airflow import plugins_manager
        from airflow.api_fastapi.app import create_app, purge_cached_app

        from rl_airflow.console import app
        from rl_airflow.console.environments import Environments

        def forget() -> None:
            plugins_manager._get_plugins.cache_clear()
            plugins_manager.get_fastapi_plugins.cache_clear()
            purge_cached_app()

        with (
            patch.object(app, "Environments", lambda: Environments(OpenedFolder(store, ec2))),
            patch.object(app, "utc_now", lambda: NOW),
        ):
            forget()
            yield create_app(apps="core")
        forget()


def add_runs(dag_id: str, *run_ids: str) -> None:
    """Let Airflow know the runs of the bucket."""
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.settings import Session
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    session: Any = Session()
    dag: Any = SerializedDagModel.get(dag_id, session=session).dag  # type: ignore[union-attr]
    for number, run_id in enumerate(run_ids):
        began = NOW - timedelta(hours=1) + number * timedelta(minutes=10)
        dag.create_dagrun(
            run_id=run_id,
            run_after=began,
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.SUCCESS,
            start_date=began,
            session=session,
        )
    session.commit()


def token_of(role: str) -> str:
    """Log in."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    user = SimpleAuthManagerUser(username="ada", role=role)
    return str(get_auth_manager().generate_jwt(user, expiration_time_in_seconds=1800))
