"""What a run is billed for: estimated before a launch, and settled from our own counts afterwards.

Both use the same functions. An estimate gets the most that can be used, and a settlement gets what
was used. All amounts are US dollars.

Not counted are files that stay in the bucket after the run, a KMS key of your own, and what the
stacks cost while nothing runs; docs/aws-account.md says what these cost.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from rl_lifecycle.errors import LaunchRefusedError
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.machines.prices import BILLED_AT_LEAST_S, cost_usd
from rl_lifecycle.machines.service_prices import ServicePrices

#: EBS counts a month as 30 days, and bills at least 60 s. https://aws.amazon.com/ebs/pricing/
SECONDS_OF_MONTH = 30 * 86_400
#: A gp3 volume has these for its price; more costs extra. https://aws.amazon.com/ebs/pricing/
FREE_IOPS, FREE_MIB_PER_S = 3000, 125
#: The volume of a machine whose template could not be read: the most that the launcher's policy
#: allows by default (`MaxVolumeGib`).
LARGEST_VOLUME_GIB = 200.0

#: The function's time limit, its storage and its usual memory, as in templates/evaluation.yaml.
FUNCTION_TIME_LIMIT_S, FUNCTION_STORAGE_MIB, FUNCTION_MEMORY_MIB = 900.0, 1024.0, 1769.0
#: This much of a function's storage is free. https://aws.amazon.com/lambda/pricing/
FREE_STORAGE_MIB = 512.0
#: Lambda bills the start of an environment, too, and stops it after this time.
#: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
LONGEST_START_S = 10.0
#: Bytes of log lines of an invocation: Lambda's three lines, or the traceback of an error.
LOG_BYTES = 4096
#: Requests of an invocation: the shard or the report, and a LIST of those who wait for it; policy,
#: record, spec and the experiment's wheels.
INVOCATION_WRITES, INVOCATION_READS = 4, 20

#: Episodes of an invocation whose speed is not known, as the evaluator's client asks for them.
EPISODES_OF_INVOCATION = 50
#: An episode may take this many times as long as its longest run of steps takes without a policy.
SLOWER_WITH_POLICY = 3.0
#: Looks of the gate and drawings of its page; each is one invocation.
DECISIONS, DRAWINGS = 4, 2

#: Writes of a checkpoint with its policy, curves and log, and further writes of an attempt. Reads
#: of an attempt: its wheels, a checkpoint, and its buffer.
CHECKPOINT_WRITES, ATTEMPT_WRITES, ATTEMPT_READS = 20, 20, 300


class MachineUse(NamedTuple):
    """What one machine uses.

    :param seconds: how long it runs.
    :param usd_per_hour: the price of its pool.
    :param volume_gib: its volumes together.
    :param checkpoints: how many checkpoints it writes.
    :param public_addresses: how many public IPv4 addresses it has. Ours have none.
    """

    seconds: float
    usd_per_hour: float
    volume_gib: float
    checkpoints: int
    public_addresses: int = 0


class FunctionUse(NamedTuple):
    """What the evaluations of a run use.

    :param seconds: the durations of all invocations together.
    """

    invocations: int
    seconds: float
    memory_mib: float = FUNCTION_MEMORY_MIB
    storage_mib: float = FUNCTION_STORAGE_MIB


def bill_machine(use: MachineUse, prices: ServicePrices) -> dict[str, float]:
    """Compute what a machine is billed for, by part.

    >>> from rl_lifecycle.machines.service_prices import TABLE
    >>> bill = bill_machine(MachineUse(3600, 0.1, 100, 2), TABLE.prices)
    >>> {name: round(usd, 4) for name, usd in bill.items()}
    {'instance': 0.1, 'volumes': 0.0111, 'addresses': 0.0, 's3': 0.0073}
    """
    seconds = max(use.seconds, BILLED_AT_LEAST_S)
    writes = (
        heartbeats_at_most(use.seconds)
        + looks_at_most(use.seconds)
        + use.checkpoints * CHECKPOINT_WRITES
        + ATTEMPT_WRITES
    )
    reads = ATTEMPT_READS + looks_at_most(use.seconds)
    return {
        "instance": cost_usd(use.seconds, use.usd_per_hour),
        "volumes": use.volume_gib * seconds / SECONDS_OF_MONTH * prices.gp3_gib_month,
        "addresses": use.public_addresses * seconds / 3600 * prices.public_ipv4_hour,
        "s3": writes * prices.s3_write + reads * prices.s3_read,
    }


def bill_functions(use: FunctionUse, prices: ServicePrices) -> dict[str, float]:
    """Compute what evaluations are billed for, by part.

    >>> from rl_lifecycle.machines.service_prices import TABLE
    >>> bill = bill_functions(FunctionUse(1, 900), TABLE.prices)
    >>> {name: round(usd, 5) for name, usd in bill.items()}
    {'duration': 0.02591, 'storage': 1e-05, 'requests': 0.0, 's3': 3e-05, 'logs': 0.0}
    """
    extra_gib = max(0.0, use.storage_mib - FREE_STORAGE_MIB) / 1024
    return {
        "duration": use.seconds * use.memory_mib / 1024 * prices.lambda_gib_s,
        "storage": use.seconds * extra_gib * prices.lambda_storage_gib_s,
        "requests": use.invocations * prices.lambda_request,
        "s3": use.invocations
        * (INVOCATION_WRITES * prices.s3_write + INVOCATION_READS * prices.s3_read),
        "logs": use.invocations * LOG_BYTES / 2**30 * prices.logs_gib,
    }


def total(bill: Mapping[str, float]) -> float:
    """Add up the parts of a bill."""
    return sum(bill.values())


def invocation_s(n_episodes: int, episode_s: float | None) -> float:
    """The most that an invocation is expected to take, at most the function's time limit.

    :param episode_s: the longest episode without its policy, seconds. None: it is not known, and
        the time limit counts.

    >>> invocation_s(50, 0.1), invocation_s(50, None)
    (25.0, 900.0)
    """
    if episode_s is None:
        return FUNCTION_TIME_LIMIT_S
    return min(FUNCTION_TIME_LIMIT_S, LONGEST_START_S + SLOWER_WITH_POLICY * n_episodes * episode_s)


def estimate_evaluations(
    spec: Spec, episode_s: float | None = None, memory_mib: float = FUNCTION_MEMORY_MIB
) -> FunctionUse:
    """Estimate the most that the evaluations of a run use.

    Each policy is evaluated when it arrives, and again as far as that was not enough. The gate
    plays both policies in every scenario. A replay only compares digests, but its policies are
    evaluated when they arrive, too.

    :param episode_s: as in :func:`invocation_s`.
    """
    evaluation = spec.experiment.evaluation
    policies = len(spec.trials) * spec.n_segments
    shards = [(evaluation.selection_episodes, policies)]
    calls = 0
    if spec.replay is None:
        scenarios = 1 + len(evaluation.scenarios)
        calls = scenarios + DECISIONS + DRAWINGS
        n = EPISODES_OF_INVOCATION
        shards += [
            (n, policies * math.ceil(evaluation.selection_episodes / n)),
            (n, 2 * scenarios * math.ceil(evaluation.max_pairs / n)),
        ]
    seconds = sum(times * invocation_s(n, episode_s) for n, times in shards)
    return FunctionUse(
        invocations=calls + sum(times for _, times in shards),
        seconds=seconds + calls * invocation_s(EPISODES_OF_INVOCATION, episode_s),
        memory_mib=memory_mib,
    )


def volumes_gib(template: Mapping[str, Any]) -> float:
    """Add up the volumes of a launch template's data, GiB.

    :raises LaunchRefusedError: if the template has something whose price is not known here, because
        a launch would then cost more than its reservation.
    """
    mappings = template.get("BlockDeviceMappings") or ()
    volumes = [mapping["Ebs"] for mapping in mappings if mapping.get("Ebs")]
    if not volumes:
        return LARGEST_VOLUME_GIB  # the image decides, and its volume is not known here
    for volume in volumes:
        if (
            volume.get("VolumeType") != "gp3"
            or int(volume.get("Iops") or 0) > FREE_IOPS
            or int(volume.get("Throughput") or 0) > FREE_MIB_PER_S
            or "VolumeSize" not in volume
        ):
            raise LaunchRefusedError(
                "the launch template has a volume whose price is not known, so the cost of a "
                "machine cannot be capped: use gp3 with a size, at most 3000 IOPS and 125 MiB/s, "
                "and trigger bootstrap_infrastructure"
            )
    return float(sum(int(volume["VolumeSize"]) for volume in volumes))


def public_addresses(template: Mapping[str, Any]) -> int:
    """Count the public IPv4 addresses that a launch template's data asks for."""
    return sum(
        bool(interface.get("AssociatePublicIpAddress"))
        for interface in template.get("NetworkInterfaces") or ()
    )


def heartbeats_at_most(seconds: float) -> float:
    """The most heartbeats that a trainer writes in this time: often at first, then every 15 s.

    A test compares this with the trainer's own pauses.
    """
    return min(seconds, 225 + seconds / 15) + 2


def looks_at_most(seconds: float) -> float:
    """The most LIST requests while a trial is watched: often at first, then every 5 s, and one of
    its learning curve every minute.
    """
    return min(seconds, 60 + seconds / 5) + seconds / 60 + 2
