"""Makes the supervisor of a trial from a run's plan and a session."""

import logging
from datetime import UTC, datetime

from infra_bootstrap.stacks.price_list import PRICES_REGION
from rl_airflow.infrastructure.sessions import RoleSession
from rl_airflow.machines.instances import Machines
from rl_airflow.machines.launch_checks import LaunchChecks
from rl_airflow.machines.market_prices import MarketPrices
from rl_airflow.run.run_resources import RunPlan
from rl_airflow.trials.supervisor import TrialSupervisor
from rl_airflow.trials.task_state import MachineMemory
from rl_lifecycle.experiment.spec import Spec


def make_supervisor(
    plan: RunPlan,
    session: RoleSession,
    trial: str,
    log: logging.Logger,
    *,
    spec: Spec | None = None,
    memory: MachineMemory | None = None,
    episode_s: float | None = None,
) -> TrialSupervisor:
    """Make the supervisor of a trial.

    :param session: the launcher's session.
    :param spec: the run's spec. If it is None, it is read from the bucket.
    :param memory: the stored state of the task, or None.
    :param episode_s: how long the environment's longest episode takes without a policy, if that is
        known, seconds.
    """
    store, ec2 = plan.store(session), session.client("ec2")
    prices = MarketPrices(ec2, log, lambda: session.client_in(PRICES_REGION, "pricing"))
    checks = LaunchChecks(ec2, log, lambda: session.client("service-quotas"))
    return TrialSupervisor(
        plan,
        spec or plan.get_spec(store),
        trial,
        store,
        Machines(ec2, plan.environment, plan.zones),
        prices,
        checks=checks,
        now=lambda: datetime.now(UTC),
        log=log,
        memory=memory,
        episode_s=episode_s,
    )
