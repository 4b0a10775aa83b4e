"""The money of a launch: what the machine and the run's evaluations may cost, reserved before."""

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from rl_airflow.run.ledger_files import LedgerFile
from rl_airflow.run.run_resources import RunPlan
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.machines.billing import (
    FUNCTION_MEMORY_MIB,
    MachineUse,
    bill_functions,
    estimate_evaluations,
    public_addresses,
    total,
    volumes_gib,
)
from rl_lifecycle.machines.ledger import Ledger
from rl_lifecycle.machines.service_prices import ServicePrices
from rl_lifecycle.storage.layout import LEARNER_SEAT
from rl_lifecycle.trials.evidence import Evidence


class LaunchMoney:
    """Reserves the money for the machines of a run.

    :param services: returns the prices of what is billed besides machines.
    :param episode_s: how long the environment's longest episode takes without a policy, if that is
        known, seconds.
    :param now: the clock; returns aware UTC datetimes.
    """

    def __init__(
        self,
        plan: RunPlan,
        spec: Spec,
        ledger: LedgerFile,
        services: Callable[[], ServicePrices],
        episode_s: float | None,
        now: Callable[[], datetime],
    ) -> None:
        self.plan, self.spec, self.ledger = plan, spec, ledger
        self.services, self.episode_s, self.now = services, episode_s, now

    def reserve(
        self, trial: str, number: int, usd: float, deadline_at: datetime, most: int | None
    ) -> None:
        """Reserve the money for a machine. The run's first machine also reserves the evaluations.

        A ledger of an older version has machines and no evaluations, and stays like that.

        :param most: how many machines of the run may work at the same time. None means any number.
        :raises BudgetExceededError, NoPlaceError: as :meth:`Ledger.reserve`.
        """
        memory_mib = self.plan.evaluator_memory_mib or FUNCTION_MEMORY_MIB
        evaluations = estimate_evaluations(self.spec, self.episode_s, memory_mib)
        evaluations_usd = total(bill_functions(evaluations, self.services()))

        def change(ledger: Ledger) -> Ledger:
            if not ledger.entries:
                ledger = ledger.reserve_evaluation(evaluations_usd)
            return ledger.reserve(
                trial, number, usd, most=most, deadline_at=deadline_at, now=self.now()
            )

        self.ledger.change(change)


def plan_use(
    evidence: Evidence, deadline_at: datetime, usd_per_hour: float, template: Mapping[str, Any]
) -> MachineUse:
    """Plan the most that the next machine can use until its deadline.

    :param usd_per_hour: the highest price among its pools.
    :param template: the data of its launch template.
    :param evidence: that of its seat. Only the learner writes checkpoints.
    :raises LaunchRefusedError: if the template has something whose price is not known.
    """
    learns = evidence.seat == LEARNER_SEAT
    left = max(0, evidence.total_timesteps - evidence.committed_step) if learns else 0
    return MachineUse(
        seconds=(deadline_at - evidence.now).total_seconds(),
        usd_per_hour=usd_per_hour,
        volume_gib=volumes_gib(template),
        checkpoints=math.ceil(left / evidence.segment_timesteps),
        public_addresses=public_addresses(template),
    )
