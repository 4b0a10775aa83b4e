"""The pool that limits how many virtual CPUs the trials of one Airflow use at the same time. Made
by Airflow's own processes.

A task that waits for a pool which does not exist waits for ever, and no task may make one. So the
scheduler's side makes it when it starts, unless it is there: its size then belongs to whoever sets
it (`airflow pools set`). AWS's own quota is looked at before each launch as well, which also holds
for `airflow dags test`, where no pool counts.
"""

import logging
from typing import Any

from airflow.listeners import hookimpl

from rl_airflow.errors import first_line
from rl_lifecycle.experiment.experiment import Compute
from rl_lifecycle.machines.launches import instance_types_of
from rl_lifecycle.machines.quotas import vcpus_of

log = logging.getLogger(__name__)

#: Its slots are vCPUs; deferred tasks count, for their machines train.
VCPU_POOL = "nightshift_vcpus"
#: What it is made with: enough for one machine of every type that we know a price of, and of all
#: but the largest others.
FIRST_SLOTS = 256
DESCRIPTION = (
    "vCPUs that training machines may use at the same time, all experiments together; "
    "set it to your account's quota"
)
#: A task that waits for a machine that is up goes before one that would launch another.
AWAIT_PRIORITY, LAUNCH_PRIORITY = 100, 1


def pool_arguments(compute: Compute, priority: int) -> dict[str, Any]:
    """What a trial's task takes of the pool: as many slots as the largest machine that it may get
    has vCPUs.
    """
    return {
        "pool": VCPU_POOL,
        "pool_slots": slots_of(compute),
        "priority_weight": priority,
        "weight_rule": "absolute",
    }


def slots_of(compute: Compute) -> int:
    """The vCPUs of the largest machine that a trial may get."""
    return max(vcpus_of(name) for name in instance_types_of(compute))


class PoolListener:
    """Makes the pool when one of Airflow's own processes (not a task) starts."""

    @hookimpl
    def on_starting(self, component: Any) -> None:
        """Make the pool; what goes wrong is said and stops nobody."""
        from airflow.jobs.job import Job

        if not isinstance(component, Job):
            return
        try:
            if ensure_pool():
                log.info("made the pool %s with %d slots", VCPU_POOL, FIRST_SLOTS)
        except Exception as error:  # Airflow must start, whatever its database answers
            log.warning(
                "the pool %s could not be made (%s); make it: airflow pools set %s %d '%s' "
                "--include-deferred",
                VCPU_POOL,
                first_line(error),
                VCPU_POOL,
                FIRST_SLOTS,
                DESCRIPTION,
            )


def ensure_pool() -> bool:
    """Make the pool unless it is there. Only for processes that may use Airflow's database.
    :return: whether it was made.
    """
    from airflow.models.pool import Pool

    if Pool.get_pool(VCPU_POOL) is not None:
        return False
    Pool.create_or_update_pool(
        name=VCPU_POOL, slots=FIRST_SLOTS, description=DESCRIPTION, include_deferred=True
    )
    return True
