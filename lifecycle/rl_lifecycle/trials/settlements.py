"""The settlement of an attempt: how it ended and what it cost, from its evidence."""

import math
from datetime import datetime

from rl_lifecycle.machines.billing import MachineUse, bill_machine, total
from rl_lifecycle.machines.machine_attempts import AttemptEnd, AttemptOutcome
from rl_lifecycle.machines.prices import cost_usd
from rl_lifecycle.machines.service_prices import ServicePrices
from rl_lifecycle.trials.evidence import Evidence, Machine, ended_at
from rl_lifecycle.trials.heartbeats import TrainerState
from rl_lifecycle.trials.states import Finding


def what_is_known(outcome: AttemptOutcome, machine: Machine | None) -> AttemptOutcome:
    """Add the machine that EC2 shows to an outcome. Without a machine the outcome is unchanged."""
    if machine is None:
        return outcome
    return outcome.launched(
        instance_id=machine.instance_id,
        instance_type=machine.instance_type,
        market="spot" if machine.market == "spot" else "on-demand",
        zone=machine.zone,
        at=machine.launched_at,
    )


def settle_outcome(
    known: AttemptOutcome,
    evidence: Evidence,
    finding: Finding,
    usd_per_hour: float,
    prices: ServicePrices,
) -> AttemptOutcome:
    """Complete the outcome of an attempt whose machine has ended.

    :param known: the outcome with its machine, see :func:`what_is_known`.
    :param usd_per_hour: the price of its pool, US dollars.
    :param prices: the prices of its volumes and requests.
    """
    beat, ended = evidence.beat, ended_at(evidence)
    seconds = (
        max(0.0, (ended - known.launched_at).total_seconds())
        if known.launched_at is not None
        else 0.0
    )
    bill = (
        bill_machine(_use(evidence, seconds, usd_per_hour), prices)
        if known.launched_at is not None
        else {"instance": 0.0}
    )
    interrupted = beat is not None and beat.state is TrainerState.INTERRUPTED

    return known.settled(
        end=finding.cause,
        reason=finding.reason,
        at=ended,
        seconds=seconds,
        usd=total(bill),
        services_usd=total(bill) - bill["instance"],
        usd_per_hour=usd_per_hour,
        reached_step=beat.step if beat is not None else None,
        committed_step=evidence.committed_step,
        notice_at=beat.at if beat is not None and interrupted else None,
        first_step_at=_first_step_at(evidence),
        saved_usd=_saved_usd(evidence, finding, usd_per_hour),
    )


def _use(evidence: Evidence, seconds: float, usd_per_hour: float) -> MachineUse:
    """Count what the newest attempt's machine used."""
    *earlier, newest = evidence.attempts
    began_at = max((attempt.outcome.committed_step or 0 for attempt in earlier), default=0)
    trained = max(0, evidence.committed_step - began_at)
    return MachineUse(
        seconds=seconds,
        usd_per_hour=usd_per_hour,
        volume_gib=newest.volume_gib,
        checkpoints=math.ceil(trained / evidence.segment_timesteps),
    )


def _saved_usd(evidence: Evidence, finding: Finding, usd_per_hour: float) -> float | None:
    """Estimate the cost of the steps that an early stop saved; None without an early stop."""
    if (
        finding.cause is not AttemptEnd.STOPPED_EARLY
        or evidence.beat is None
        or evidence.beat.steps_per_s <= 0
    ):
        return None
    left = max(0, evidence.total_timesteps - evidence.beat.step)
    return cost_usd(left / evidence.beat.steps_per_s, usd_per_hour)


def _first_step_at(evidence: Evidence) -> datetime | None:
    progress, newest = evidence.progress, evidence.newest
    return (
        progress.first_step_at
        if progress is not None and newest is not None and progress.attempt == newest.attempt
        else None
    )
