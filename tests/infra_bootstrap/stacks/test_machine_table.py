"""`freeze_spec` logs the table of machines, with the launcher's rights on the local AWS."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from rl_airflow.infrastructure.sessions import RoleSession
from rl_airflow.machines import machine_advice
from rl_airflow.run import spec_operator
from rl_airflow.run.spec_operator import S3FreezeSpecOperator
from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.experiment.spec import freeze_spec
from rl_lifecycle.storage.layout import WRITERS
from rl_lifecycle.storage.object_store import put_once
from rl_lifecycle.storage.s3_store import S3Store
from tests.infra_bootstrap.accounts import Deployment
from tests.lifecycle.reports.earlier_runs import files_of_run
from tests.plugins.run.test_frozen_evaluator import deployed

EXPERIMENT = {
    "env_id": "CartPole-v1",
    "algo": "ppo",
    "total_timesteps": 3_600_000,
    "hyperparameters": {"n_envs": 16},
    "evaluation": {"return_range": [0, 500], "crash_below": 100},
    "compute": {"instance_types": ["c7i.large"]},
}


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged about machines."""
    return [one.getMessage() for one in caplog.records if one.name == machine_advice.__name__]


class Night:
    """The freezing task of an experiment in the deployed environment."""

    def __init__(self, dev: Deployment, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        launcher = dev.as_role("launcher")
        self.experiment = read_experiment(EXPERIMENT, name)
        self.writers = {
            role: S3Store(dev.as_role(role).s3, dev.bucket) for role in ("launcher", "trainer")
        }
        place = deployed(1)._replace(bucket=dev.bucket)
        monkeypatch.setattr(spec_operator, "find_environment", lambda *_, **__: place)
        monkeypatch.setattr(RoleSession, "client", lambda _, service: launcher.client(service))
        monkeypatch.setattr(
            RoleSession, "client_in", lambda _, region, service: launcher.client(service, region)
        )

    def freeze(self, run_id: str) -> list[str]:
        """Freeze a run."""
        task = S3FreezeSpecOperator(
            task_id="freeze_spec", experiment=self.experiment.model_dump(mode="json"), folder=""
        )
        context: Any = {
            "params": {"environment": "dev"},
            "ti": SimpleNamespace(xcom_push=lambda key, value: None),
            "run_id": run_id,
            "dag_run": SimpleNamespace(conf={}),
        }
        return task.execute(context)

    def train(self, run_id: str) -> None:
        """Leave what a trained run leaves: two processes, 16 steps in 24.06 ms."""
        now = datetime.now(UTC)
        spec = freeze_spec(self.experiment, run_id=run_id, created_at=now)
        for key, data in files_of_run(spec, now, steps_per_s=16 / 0.02406).items():
            (role,) = WRITERS[key.partition("/")[0] + "/"]
            put_once(self.writers[role], key, data)


def test_the_log_has_hours_and_steps_per_dollar_from_the_last_run(
    dev: Deployment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A first run says that nothing is measured yet. The next one has the table."""
    caplog.set_level(logging.INFO, machine_advice.__name__)
    night = Night(dev, "measured", monkeypatch)
    assert night.freeze("first")
    assert said(caplog) == [machine_advice.NOT_YET]
    night.train("second")
    caplog.clear()
    assert night.freeze("third")
    lines = said(caplog)
    assert lines[0] == (
        "How many? From run second on c7i.large: a step takes 1.00 ms, and the updates 1.00 ms more"
    )
    large, largest = (line.split() for line in lines[2:4])
    assert large[:4] == ["c7i.large", "2", "2", "1.5"]
    assert largest[:4] == ["c7i.4xlarge", "16", "16", "1.12"]
    assert largest[-2:] == ["not", "taken"]
    assert float(large[4]) < float(largest[4])
    assert any("this buys hours, not steps per dollar" in line for line in lines)
    assert lines[-1].startswith("Prices: spot, from AWS today; machines only.")


def test_no_error_of_the_table_fails_the_task(
    dev: Deployment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The run is frozen, and one line says what was missing."""

    def fail(*_: Any) -> None:
        raise RuntimeError("no table\ntoday")

    monkeypatch.setattr(machine_advice, "find_measured_run", fail)
    assert Night(dev, "unlucky", monkeypatch).freeze("first")
    assert "the table of machines could not be made: no table" in said(caplog)
