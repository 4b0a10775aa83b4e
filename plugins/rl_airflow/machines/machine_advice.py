"""Log how many processes and machines a run takes, what others would change, and why."""

import logging
from datetime import UTC, datetime

from infra_bootstrap.stacks.price_list import PRICES_REGION
from rl_airflow.errors import first_line
from rl_airflow.infrastructure.sessions import RoleSession
from rl_airflow.machines.market_prices import MarketPrices
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.machines.instance_types import AS_OF, PRICED_REGION
from rl_lifecycle.machines.launch_requests import collector_types_of, instance_types_of
from rl_lifecycle.machines.machine_estimates import (
    MeasuredStep,
    TrialWork,
    estimate,
    other_type,
    plan_machine_sets,
)
from rl_lifecycle.machines.prices import table_usd
from rl_lifecycle.reports.machine_table import render_machines
from rl_lifecycle.reports.measured_steps import find_measured_run
from rl_lifecycle.storage.object_store import ObjectStore

log = logging.getLogger(__name__)

#: What a first run says before anything is measured.
NOT_YET = (
    "How many? No trained trial of an earlier run has the same environment, algorithm and "
    "hyper-parameters, so no step is measured yet: the task check_environment measures one, and "
    "logs processes, hours and steps per dollar"
)


def log_machines(
    spec: Spec, store: ObjectStore, session: RoleSession, steps_per_s: float | None = None
) -> None:
    """Log the table of machines for a run. Any error is only logged, because the run can go on.

    What a step takes is known from the last run. Without one, it must be measured first.

    :param session: the launcher's session. Use it for nothing else afterwards, because its calls
        no longer wait for a busy AWS.
    :param steps_per_s: of one environment, as `check_environment` measured it. None: before that
        task. With it, the table is logged only if no earlier run is there, so it is logged once.
    """
    try:
        session.hurry()
        earlier = find_measured_run(store, spec)
        if steps_per_s is None:
            text = (
                _render(spec, session, earlier.step, f"From run {earlier.run_id}")
                if earlier
                else NOT_YET
            )
        elif earlier or not steps_per_s:
            return
        else:
            step = MeasuredStep(1 / steps_per_s)
            text = _render(spec, session, step, "From check_environment, measured in Lambda")
        for line in text.splitlines():
            log.info("%s", line)
    except Exception as error:  # this text must not keep a run from its training
        log.warning("the table of machines could not be made: %s", first_line(error))


def _render(spec: Spec, session: RoleSession, step: MeasuredStep, source: str) -> str:
    compute, work = spec.experiment.compute, TrialWork.of(spec)
    types = {*instance_types_of(compute), *collector_types_of(compute)}
    types |= {name for name in [other_type(instance_types_of(compute))] if name}
    usd, prices = _read_prices(sorted(types), compute.market, session)
    sets = plan_machine_sets(compute, spec.shards, usd)
    where = f"{source} on {step.instance_type}" if step.instance_type else source
    return render_machines([estimate(work, one, step) for one in sets], step, where, prices)


def _read_prices(
    types: list[str], market: str, session: RoleSession
) -> tuple[dict[str, float], str]:
    """Read the prices of an hour, and describe where they are from. A type may have none."""
    market_prices = MarketPrices(
        session.client("ec2"), log, lambda: session.client_in(PRICES_REGION, "pricing")
    )
    current = market_prices.hourly(types, market, datetime.now(UTC))
    table = {
        name: usd
        for name in types
        if name not in current and (usd := table_usd(name, market)) is not None
    }
    words = [f"{market}, from AWS today"] if current else []
    if table:
        of = f" for {', '.join(table)}" if current else ""
        words.append(f"{market}, from the table of {AS_OF} ({PRICED_REGION}){of}")
    return {**current, **table}, "; ".join(words) or f"{market}, none is known"
