"""The request for the next machine of a trial: market, pools, deadline and back-off. All pure.

One attempt sends one request to EC2 Fleet, for one machine in any of its pools. AWS chooses the
pool by price and depth. If AWS refuses, a later attempt sends a new request, because the answer to
an instant fleet is final for its token.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from pydantic import JsonValue

from rl_lifecycle.aws_errors import ErrorKind, kind_of
from rl_lifecycle.errors import LaunchRefusedError
from rl_lifecycle.experiment.compute_settings import Compute
from rl_lifecycle.machines.auto_types import AUTO_TYPES
from rl_lifecycle.machines.instance_types import INSTANCE_TYPES
from rl_lifecycle.machines.machine_attempts import Attempt, AttemptEnd
from rl_lifecycle.storage.layout import LEARNER_SEAT, TrialId

Market = Literal["spot", "on-demand"]

#: EC2 takes at most this many overrides in one request of type instant.
MOST_OVERRIDES = 300
#: The processor of each family in the table. Machines of one processor generation form one numeric
#: class.
PROCESSORS = {row.family: row.processor for row in INSTANCE_TYPES.values()}
#: Within this time after an attempt was written, its machine may be requested again. This is safe,
#: because the request has the same token.
TOKEN_HOLDS = timedelta(minutes=30)
BACK_OFF_FIRST_S, BACK_OFF_MOST_S = 15.0, 600.0
TAG_PREFIX = "nightshift:"
#: The tag with the seat of a machine that only collects. The learner's machine does not have it.
SEAT_TAG = f"{TAG_PREFIX}seat"

#: EC2's error codes for a vCPU quota that is used up.
VCPU_QUOTA_CODES = frozenset(
    {"MaxSpotInstanceCountExceeded", "VcpuLimitExceeded", "InstanceLimitExceeded"}
)
#: The kinds of refusal that may go away after a while.
WAITABLE = frozenset({ErrorKind.RETRY, ErrorKind.CAPACITY, ErrorKind.QUOTA})


class Pool(NamedTuple):
    """One instance type in one subnet."""

    instance_type: str
    subnet_id: str
    zone: str


def instance_types_of(compute: Compute) -> tuple[str, ...]:
    """The instance types that an experiment allows. `auto` is replaced by a list of types."""
    return AUTO_TYPES if compute.instance_types == "auto" else compute.instance_types


def collector_types_of(compute: Compute) -> tuple[str, ...]:
    """The instance types of the machines that only collect.

    >>> collector_types_of(Compute(instance_types=("g5.xlarge", "c7i.large"), machines=2))
    ('c7i.large',)
    """
    named = compute.collectors.instance_types if compute.collectors else "auto"
    if named != "auto":
        return named
    return tuple(name for name in instance_types_of(compute) if not has_gpu(name)) or AUTO_TYPES


def has_gpu(instance_type: str) -> bool:
    """Whether a type has a GPU, from the table, or else from its name.

    >>> [has_gpu(name) for name in ("g5.xlarge", "p9.2xlarge", "c7i.large")]
    [True, True, False]
    """
    if row := INSTANCE_TYPES.get(instance_type):
        return row.gpu is not None
    return instance_type.startswith(("g", "p"))


def processor_of(instance_type: str) -> str:
    """The processor generation of an instance type.

    A family that is not in the table counts as a separate generation.

    >>> processor_of("m7i.large") == processor_of("c7i.xlarge"), processor_of("p5.48xlarge")
    (True, 'p5')
    """
    family = instance_type.split(".")[0]
    return PROCESSORS.get(family, family)


def plan_market(
    compute: Compute, attempts: Sequence[Attempt], *, spot_in_time: bool = True
) -> Market:
    """Choose the market of the next attempt.

    It is on-demand after as many spot attempts as the experiment allows, or when time is short.
    Every spot attempt counts, also an attempt that every pool refused.

    :param spot_in_time: whether spot leaves enough time until the result is needed; see
        :func:`rl_lifecycle.experiment.due_times.spot_leaves_time`.
    """
    if compute.market == "on-demand" or not spot_in_time:
        return "on-demand"
    spot = sum(market_of(attempt) == "spot" for attempt in attempts)
    return "on-demand" if compute.on_demand_after and spot >= compute.on_demand_after else "spot"


def market_of(attempt: Attempt) -> Market:
    """Read the market from the frozen request of an attempt."""
    capacity = attempt.request.get("TargetCapacitySpecification")
    kind = capacity.get("DefaultTargetCapacityType") if isinstance(capacity, dict) else None
    return "on-demand" if kind == "on-demand" else "spot"


def plan_types(compute: Compute, attempts: Sequence[Attempt]) -> tuple[str, ...]:
    """Choose the instance types of the next attempt.

    Once a trial has a checkpoint, only types of the same processor generation are allowed. With
    `on_other_hardware: continue` all types stay allowed, and the digest is marked as not
    comparable.
    """
    allowed = instance_types_of(compute)
    used = [
        a.outcome.instance_type
        for a in attempts
        if a.outcome.instance_type and (a.outcome.committed_step or 0) > 0
    ]
    if not used or compute.on_other_hardware == "continue":
        return allowed
    return tuple(name for name in allowed if processor_of(name) == processor_of(used[0])) or (
        used[0],
    )


def plan_pools(
    instance_types: Iterable[str],
    subnets: Mapping[str, str],
    offered: Mapping[str, Iterable[str]] | None = None,
) -> tuple[Pool, ...]:
    """Combine instance types and subnets, with the experiment's preferred type first.

    :param subnets: zone → subnet id.
    :param offered: type → zones that offer it; other zones are left out. None means all zones.
    :raises LaunchRefusedError: if no pool is left.
    """
    names = tuple(dict.fromkeys(instance_types))
    pools = tuple(
        Pool(name, subnet, zone)
        for name in names
        for zone, subnet in sorted(subnets.items())
        if offered is None or zone in set(offered.get(name, ()))
    )
    if not pools:
        zones = ", ".join(sorted(subnets)) or "none"
        raise LaunchRefusedError(
            f"none of {', '.join(names) or 'no type'} is offered in the zones of our subnets "
            f"({zones}): "
            "choose other compute.instance_types, or bootstrap the environment in more zones"
        )
    return pools[:MOST_OVERRIDES]


def hours_used(attempts: Iterable[Attempt]) -> float:
    """The machine hours of a trial's settled attempts."""
    return sum(attempt.outcome.seconds or 0.0 for attempt in attempts) / 3600


def plan_deadline(compute: Compute, attempts: Sequence[Attempt], now: datetime) -> datetime:
    """The deadline of the next machine, which leaves it the rest of `max_hours`.

    :raises LaunchRefusedError: if no time is left.
    """
    left = compute.max_hours - hours_used(attempts)
    if left <= 0:
        raise LaunchRefusedError(
            f"the trial has used its compute.max_hours {compute.max_hours:g}; raise it and clear "
            "the task"
        )
    return now + timedelta(hours=left)


def back_off_s(attempts: Sequence[Attempt]) -> float:
    """The seconds to wait between the end of the last attempt and the next one.

    Only refused capacity makes a trial wait. The wait doubles with each refusal in a row. The token
    makes the waits of trials different, so that they do not all send their requests at once.
    """
    refused = 0
    for attempt in reversed(attempts):
        if attempt.outcome.end is not AttemptEnd.NO_CAPACITY:
            break
        refused += 1
    if not refused:
        return 0.0
    spread = int(hashlib.sha256(attempts[-1].token.encode()).hexdigest()[:8], 16) / 2**32
    return min(BACK_OFF_MOST_S, BACK_OFF_FIRST_S * 2.0 ** min(refused - 1, 16)) * (
        0.75 + 0.5 * spread
    )


def trial_tags(
    environment: str, trial: TrialId, attempt: int, spec_sha256: str, deadline_at: datetime
) -> dict[str, str]:
    """The tags of a machine. The trainer on it, its adoption and the reaper read them."""
    seat = {} if trial.seat == LEARNER_SEAT else {SEAT_TAG: str(trial.seat)}
    return {
        "Name": f"nightshift-{environment}-{trial.experiment}-{trial.seat_name}"[:255],
        f"{TAG_PREFIX}environment": environment,
        f"{TAG_PREFIX}experiment": trial.experiment,
        f"{TAG_PREFIX}run": trial.run,
        f"{TAG_PREFIX}trial": trial.trial,
        **seat,
        f"{TAG_PREFIX}attempt": str(attempt),
        f"{TAG_PREFIX}spec": spec_sha256,
        f"{TAG_PREFIX}deadline": deadline_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def build_fleet_request(
    *,
    launch_template_id: str,
    launch_template_version: str,
    pools: Sequence[Pool],
    market: Market,
    tags: Mapping[str, str],
    instance_profile_arn: str | None = None,
) -> dict[str, JsonValue]:
    """Build the CreateFleet request for one machine, without its ClientToken.

    The request sets no maximum price: AWS advises against it, and the on-demand price is the limit
    anyway. Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-fleet-request-type.html

    :param instance_profile_arn: the experiment's own instance profile. None means the profile of
        the launch template, which is common to the environment. An override of an instant fleet can
        name a profile. Source:
        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_FleetLaunchTemplateOverridesRequest.html
    """
    profile: dict[str, JsonValue] = (
        {"IamInstanceProfile": {"Arn": instance_profile_arn}} if instance_profile_arn else {}
    )
    overrides: list[JsonValue] = [
        {
            "InstanceType": pool.instance_type,
            "SubnetId": pool.subnet_id,
            **profile,
            **({} if market == "spot" else {"Priority": float(rank)}),
        }
        for rank, pool in enumerate(pools)
    ]
    strategy: dict[str, JsonValue] = (
        {"SpotOptions": {"AllocationStrategy": "price-capacity-optimized"}}
        if market == "spot"
        else {"OnDemandOptions": {"AllocationStrategy": "prioritized"}}
    )
    pairs: list[JsonValue] = [{"Key": key, "Value": value} for key, value in tags.items()]
    return {
        "Type": "instant",
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {
                    "LaunchTemplateId": launch_template_id,
                    "Version": launch_template_version,
                },
                "Overrides": overrides,
            }
        ],
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": 1,
            "DefaultTargetCapacityType": market,
        },
        **strategy,
        "TagSpecifications": [{"ResourceType": "instance", "Tags": pairs}],
    }


def explain_refusals(codes: Iterable[str]) -> str:
    """Say in one clause what to do about refused pools. It is empty if only waiting helps."""
    if quota := {code for code in codes if kind_of(code) is ErrorKind.QUOTA}:
        what = "vCPU quota" if quota <= VCPU_QUOTA_CODES else "quota"
        return (
            f"{', '.join(sorted(quota))}: the account's {what} is used up; wait, or raise it under "
            "Service Quotas → Amazon EC2"
        )
    return ""
