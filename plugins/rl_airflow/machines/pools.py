"""The Airflow pool that limits how many vCPUs the trials of one Airflow use at the same time.

If its pool is missing, a task waits for ever. No task may create a pool. So the scheduler creates
the pool when it starts, unless the pool exists. You can change its size with `airflow pools set`.
AWS's own quota is checked before each launch as well. That check also works in `airflow dags test`,
which ignores pools.
"""

import logging
from typing import Any

from airflow.listeners import hookimpl

from rl_airflow.errors import first_line
from rl_lifecycle.experiment.compute_settings import Compute
from rl_lifecycle.machines.launch_requests import collector_types_of, instance_types_of
from rl_lifecycle.machines.quotas import vcpus_of

log = logging.getLogger(__name__)

#: A slot is a vCPU. Deferred tasks count, because their machines are training.
VCPU_POOL = "nightshift_vcpus"
#: The initial size: enough for one machine of each type in the price table, and of most others.
FIRST_SLOTS = 256
DESCRIPTION = (
    "vCPUs that training machines may use at the same time, all experiments together; "
    "set it to your account's quota"
)
#: A task that waits for a running machine goes before a task that launches another machine.
AWAIT_PRIORITY, LAUNCH_PRIORITY = 100, 1


def pool_arguments(compute: Compute, priority: int) -> dict[str, Any]:
    """Return the pool arguments of a trial's task: a slot per vCPU of its largest machines."""
    return {
        "pool": VCPU_POOL,
        "pool_slots": slots_of(compute),
        "priority_weight": priority,
        "weight_rule": "absolute",
    }


def slots_of(compute: Compute) -> int:
    """Return the vCPUs of the largest machines that a trial may get, together."""
    learner = max(vcpus_of(name) for name in instance_types_of(compute))
    collector = max(vcpus_of(name) for name in collector_types_of(compute))
    return learner + (compute.machines - 1) * collector


class PoolListener:
    """Creates the pool when one of Airflow's own processes (not a task) starts."""

    @hookimpl
    def on_starting(self, component: Any) -> None:
        """Create the pool. An error is only logged."""
        from airflow.jobs.job import Job

        if not isinstance(component, Job):
            return
        try:
            if ensure_pool():
                log.info("created the pool %s with %d slots", VCPU_POOL, FIRST_SLOTS)
        except Exception as error:  # Airflow must start, even if its database does not answer
            log.warning(
                "the pool %s could not be created (%s); run: airflow pools set %s %d '%s' "
                "--include-deferred",
                VCPU_POOL,
                first_line(error),
                VCPU_POOL,
                FIRST_SLOTS,
                DESCRIPTION,
            )


def ensure_pool() -> bool:
    """Create the pool unless it exists. Only for processes that may use Airflow's database.

    :return: whether it was created.
    """
    from airflow.models.pool import Pool

    if Pool.get_pool(VCPU_POOL) is not None:
        return False
    Pool.create_or_update_pool(
        name=VCPU_POOL, slots=FIRST_SLOTS, description=DESCRIPTION, include_deferred=True
    )
    return True
