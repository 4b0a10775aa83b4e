"""The task `check_environment` logs how many processes will step the environments, and why."""

import logging
from typing import Any

import pytest

from rl_airflow.evaluation.environment_operator import describe_workers
from rl_airflow.infrastructure.sessions import RoleSession
from rl_airflow.machines import machine_advice
from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.experiment.spec import Spec, freeze_spec
from tests.lifecycle.conftest import NIGHT
from tests.lifecycle.reports.earlier_runs import files_of_run
from tests.plugins.worlds import START, World


def spec_of(shards: int = 1, **compute: Any) -> Spec:
    """Freeze an experiment with eight environments."""
    document = {
        "env_id": "CartPole-v1",
        "algo": "ppo",
        "total_timesteps": 100_000,
        "evaluation": {"return_range": [0, 500], "crash_below": 100},
        "compute": compute,
        "shards": shards,
    }
    return freeze_spec(read_experiment(document, "x"), run_id="r", created_at=NIGHT)


@pytest.mark.parametrize(
    ("compute", "steps_per_s", "words"),
    [
        (
            {"instance_types": ["c7i.large", "c6i.large", "g5.xlarge"]},
            1000.0,
            "compute.workers: auto, which is likely to be 2 on 2 vCPUs (a step takes 1.00 ms, so 2 "
            "processes are 2.0 times as fast); 4 on 4 vCPUs (a step takes 1.00 ms, so 4 processes "
            "are 3.7 times as fast)",
        ),
        (
            {"instance_types": ["c7i.large"]},
            100_000.0,
            "compute.workers: auto, which is likely to be 1 on 2 vCPUs (a step takes only 0.01 ms)",
        ),
        ({"workers": 4}, 1000.0, "compute.workers: 4"),
        ({}, None, "compute.workers: auto"),
    ],
)
def test_the_likely_number_is_described(
    compute: dict[str, Any], steps_per_s: float | None, words: str
) -> None:
    """For each number of vCPUs among the allowed instance types."""
    assert describe_workers(spec_of(**compute), steps_per_s) == words


def test_a_process_takes_whole_shards() -> None:
    """So there are at most as many processes as shards."""
    words = describe_workers(spec_of(2, instance_types=["c7i.xlarge"]), 1000.0)
    assert words.startswith("compute.workers: auto, which is likely to be 2 on 4 vCPUs (")


def test_the_first_run_logs_its_machines_from_the_checks_measurement(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The updates are not known then. Later runs have logged the table before, in `freeze_spec`."""
    caplog.set_level(logging.INFO, machine_advice.__name__)
    world = World()
    monkeypatch.setattr(RoleSession, "client", lambda session, name: world.ec2)
    session = RoleSession("launcher", "dev")
    spec = spec_of(instance_types=["c7i.large"])
    machine_advice.log_machines(spec, world.store, session, 100.0)
    assert caplog.messages[1].startswith("How many? From check_environment, measured in Lambda: ")
    assert "a step takes 10.00 ms; updates are not known yet" in caplog.messages[1]
    assert "the table of" in caplog.messages[-1]
    caplog.clear()
    earlier = spec.model_copy(update={"run": "before"})
    for key, data in files_of_run(earlier, START, steps_per_s=100.0).items():
        world.store.put(key, data)
    machine_advice.log_machines(spec, world.store, session, 100.0)
    assert caplog.messages == []
