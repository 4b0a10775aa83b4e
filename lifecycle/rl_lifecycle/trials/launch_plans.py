"""What the next machine of a trial may be: its types, its market, its zone and its deadline."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from rl_lifecycle.experiment.due_times import spot_leaves_time
from rl_lifecycle.machines.launch_requests import (
    Market,
    collector_types_of,
    has_gpu,
    plan_deadline,
    plan_market,
    plan_types,
    processor_of,
)
from rl_lifecycle.machines.machine_attempts import Attempt, AttemptEnd
from rl_lifecycle.storage.layout import LEARNER_SEAT
from rl_lifecycle.trials.evidence import Evidence

#: A machine that only collects is requested in the learner's zone alone for this long. Traffic
#: between zones costs money, and it is slower.
#: https://aws.amazon.com/ec2/pricing/on-demand/#Data_Transfer
OWN_ZONE = timedelta(minutes=3)


class LaunchPlan(NamedTuple):
    """What the next machine may be.

    :param only_zone: the zone in which alone it is requested; None: in all zones.
    """

    types: tuple[str, ...]
    market: Market
    deadline_at: datetime
    only_zone: str | None = None


def plan_launch(evidence: Evidence, seat: int) -> LaunchPlan:
    """Plan the next machine of a seat.

    :param evidence: that of the whole trial.
    :raises LaunchRefusedError: if the trial has no time left.
    """
    compute, learner = evidence.compute, evidence.newest
    in_time = spot_leaves_time(evidence.due_at, evidence.now, evidence.left_s, evidence.segment_s)
    if seat == LEARNER_SEAT or learner is None:
        return LaunchPlan(
            plan_types(compute, evidence.attempts),
            plan_market(compute, evidence.attempts, spot_in_time=in_time),
            plan_deadline(compute, evidence.attempts, evidence.now),
        )
    own = evidence.collectors[seat - 1].attempts
    since = refused_since(own)
    widens_at = since + OWN_ZONE if since is not None else None
    is_wide = widens_at is not None and evidence.now >= widens_at
    # A refusal by one zone alone says nothing about a market.
    counted = [
        one
        for one in own
        if one.outcome.end is not AttemptEnd.NO_CAPACITY
        or (widens_at is not None and one.created_at >= widens_at)
    ]
    return LaunchPlan(
        plan_collector_types(evidence),
        plan_market(compute, counted, spot_in_time=in_time),
        learner.deadline_at,
        None if is_wide else learner.outcome.zone,
    )


def refused_since(attempts: Sequence[Attempt]) -> datetime | None:
    """Find since when every request was refused; None if the last one got a machine."""
    since = None
    for attempt in reversed(attempts):
        if attempt.outcome.end is not AttemptEnd.NO_CAPACITY:
            break
        since = attempt.created_at
    return since


def plan_collector_types(evidence: Evidence) -> tuple[str, ...]:
    """Choose the types of the machines that only collect.

    All machines that collect must be of one numeric class. So the type of a machine that has
    collected decides the processor generation, or else the type of a machine that is at work. With
    `on_other_hardware: continue` all types stay allowed.
    """
    allowed = collector_types_of(evidence.compute)
    if evidence.compute.on_other_hardware == "continue":
        return allowed
    used = next(_types_in_use(evidence), None)
    if used is None:
        return allowed
    same = tuple(name for name in allowed if processor_of(name) == processor_of(used))
    return same or allowed  # the learner's machine may be of a kind that no collector may have


def _types_in_use(evidence: Evidence) -> Iterator[str]:
    """Name the types that decide, the strongest reason first."""
    seats = [evidence.at_seat(seat) for seat in evidence.seats[1:]]
    collected = sorted(
        (
            attempt
            for seat in seats
            for attempt in seat.attempts
            if attempt.outcome.instance_type and has_collected(seat, attempt)
        ),
        key=lambda attempt: (attempt.created_at, attempt.trial),
    )
    yield from (one.outcome.instance_type for one in collected if one.outcome.instance_type)
    for seat in (evidence, *seats):
        newest = seat.newest
        name = newest.outcome.instance_type if newest is not None else None
        if newest is not None and newest.outcome.end is None and name and not has_gpu(name):
            yield name


def has_collected(evidence: Evidence, attempt: Attempt) -> bool:
    """Whether a machine that only collects has collected steps.

    :param evidence: that of its seat.
    """
    beat = evidence.heartbeat
    reached = beat.step if beat is not None and beat.attempt == attempt.attempt else 0
    return max(reached, attempt.outcome.reached_step or 0) > 0
