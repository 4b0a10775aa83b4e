"""A lost pointer is restored in the bucket by one command, which acts as the promoter."""

from __future__ import annotations

import itertools
import json

import pytest

from infra_bootstrap.commands.champion_restoration import restore_in_bucket
from infra_bootstrap.errors import AccessRefusedError
from rl_lifecycle.errors import LostPointerError
from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.registry.contents import find_champion, freeze_champion
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_lifecycle.storage.layout import champion_key, registry_prefix
from rl_lifecycle.storage.s3_store import S3Store
from tests.infra_bootstrap.accounts import Deployment
from tests.lifecycle.registry.test_promotion import Night

NAME = "lost_pointer"


@pytest.fixture
def lost(dev: Deployment, tmp_path_factory: pytest.TempPathFactory) -> S3Store:
    """A registry with a history in the bucket, whose pointer was never copied there."""
    settings = {
        "env_id": "CartPole-v1",
        "algo": "ppo",
        "total_timesteps": 100_000,
        "evaluation": {"return_range": [0, 500], "crash_below": 100},
    }
    local, count = DirectoryStore(tmp_path_factory.mktemp("registry")), itertools.count()
    night = Night(local, read_experiment(settings, NAME), "n1", lambda: f"{next(count)}")
    night.promote()
    bucket = S3Store(dev.as_role("promoter").s3, dev.bucket)
    for item in local.list(registry_prefix(NAME)):
        found = local.find(item.key)
        if found is not None and item.key != champion_key(NAME):
            bucket.put(item.key, found.data, if_none_match=True)
    with pytest.raises(LostPointerError, match="--environment dev --experiment lost_pointer"):
        freeze_champion(bucket, read_experiment(settings, NAME))
    return bucket


def test_the_command_restores_the_pointer(dev: Deployment, lost: S3Store) -> None:
    """Airflow's role restores it; an administrator may not become the promoter."""
    with pytest.raises(AccessRefusedError):
        restore_in_bucket(dev.as_role("administrator"), "dev", NAME)
    words = ["restore-champion", "--environment", "dev", "--experiment", NAME, "--json"]
    done = dev.account.cli(*words, role="airflow-worker")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) | {"reason": ""} == {
        "experiment": NAME,
        "version": 1,
        "restored": True,
        "reason": "",
    }
    champion = find_champion(lost, NAME)
    assert champion is not None
    assert champion[0].version == 1
    assert not restore_in_bucket(dev.as_role("airflow-worker"), "dev", NAME).restored


@pytest.mark.parametrize(
    ("words", "told"),
    [([], "--experiment"), (["--experiment", "no name"], "--experiment")],
)
def test_a_wrong_name_is_one_line(dev: Deployment, words: list[str], told: str) -> None:
    """The command says what is missing."""
    done = dev.account.cli(
        "restore-champion", "--environment", "dev", *words, role="airflow-worker"
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert told in done.stderr
