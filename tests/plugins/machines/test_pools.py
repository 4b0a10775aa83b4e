"""The Airflow pool of vCPUs: its size, its creation, and each task's slots."""

import logging

import pytest

from rl_airflow.machines import pools
from rl_airflow.machines.pools import (
    AWAIT_PRIORITY,
    LAUNCH_PRIORITY,
    VCPU_POOL,
    PoolListener,
    pool_arguments,
)
from rl_lifecycle.experiment.compute_settings import Collectors, Compute
from rl_lifecycle.machines.prices import FALL_BACK
from rl_lifecycle.machines.quotas import vcpus_of


def test_a_task_takes_as_many_slots_as_the_largest_machine_it_may_get_has_vcpus() -> None:
    """Waiting for a running machine has a higher priority than launching one."""
    assert pool_arguments(Compute(), LAUNCH_PRIORITY)["pool_slots"] == 2
    wide = pool_arguments(Compute(instance_types=("c7i.large", "g5.2xlarge")), AWAIT_PRIORITY)
    assert (wide["pool"], wide["pool_slots"]) == (VCPU_POOL, 8)
    assert AWAIT_PRIORITY > LAUNCH_PRIORITY


def test_a_task_takes_the_slots_of_all_machines_of_its_trial() -> None:
    """The learner's largest machine, and as many of the others as the trial has."""
    assert pool_arguments(Compute(machines=3), LAUNCH_PRIORITY)["pool_slots"] == 6
    larger = Collectors(instance_types=("c7i.xlarge",))
    wide = Compute(instance_types=("g5.2xlarge",), machines=3, collectors=larger)
    assert pool_arguments(wide, LAUNCH_PRIORITY)["pool_slots"] == 8 + 2 * 4


def test_a_task_makes_no_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task never creates the pool, because only Airflow's processes may use its database."""
    monkeypatch.setattr(pools, "ensure_pool", lambda: pytest.fail("a task touched the database"))
    PoolListener().on_starting(object())


def test_a_pool_that_cannot_be_created_is_reported_with_the_command(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the command, and the scheduler starts."""
    from airflow.jobs.job import Job

    def broken() -> bool:
        raise ConnectionError("no database")

    monkeypatch.setattr(pools, "ensure_pool", broken)
    with caplog.at_level(logging.WARNING):
        PoolListener().on_starting(Job.__new__(Job))
    assert "no database" in caplog.text
    assert "airflow pools set nightshift_vcpus 256" in caplog.text
    assert "--include-deferred" in caplog.text


def test_the_pool_holds_one_machine_of_every_type_that_has_a_price_and_not_of_the_largest() -> None:
    """Types without a price may need more slots, which a person sets."""
    assert max(vcpus_of(name) for name in FALL_BACK) <= pools.FIRST_SLOTS
    assert vcpus_of("p5.48xlarge") <= pools.FIRST_SLOTS < vcpus_of("u-24tb1.112xlarge") == 448
