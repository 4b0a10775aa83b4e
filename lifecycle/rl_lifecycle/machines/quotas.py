"""The vCPU quotas of an account, and whether one more machine fits into them.

AWS limits vCPUs by family and market. A launch that can never fit is refused, and the message says
what to do. A launch that does not fit now waits, as for any other lack of capacity. Source:
https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rl_lifecycle.errors import LaunchRefusedError
from rl_lifecycle.machines.instance_types import INSTANCE_TYPES
from rl_lifecycle.machines.launch_requests import Market
from rl_lifecycle.machines.machine_attempts import Refusal

#: The quotas that are read: name of the families → the quota's code by market.
QUOTA_CODES: Mapping[str, Mapping[Market, str]] = {
    "standard": {"spot": "L-34B43A08", "on-demand": "L-1216C47A"},
    "G and VT": {"spot": "L-3819A6DF", "on-demand": "L-DB2E81BA"},
    "P": {"spot": "L-7212CCBC", "on-demand": "L-417A185B"},
}
#: First letters of a family → its quota, for types that the table does not have. P5 on spot has a
#: separate quota, which is not read.
FAMILIES: Mapping[str, str] = {
    **dict.fromkeys(("a", "c", "d", "h", "i", "m", "r", "t", "z"), "standard"),
    **dict.fromkeys(("g", "vt"), "G and VT"),
    "p": "P",
}
#: Families with other quotas than their first letters suggest. Their quotas are not read here.
OTHERS = ("dl", "hpc", "inf", "mac", "trn", "u")
#: What EC2 answers when a quota is used up, by market.
FULL: Mapping[Market, str] = {
    "spot": "MaxSpotInstanceCountExceeded",
    "on-demand": "VcpuLimitExceeded",
}
#: The vCPUs of sizes below `large`, and the largest bare-metal size of the families above.
SMALL_VCPUS, METAL_VCPUS = 2, 192


class Usage(NamedTuple):
    """How many vCPUs of a quota may run, and how many do."""

    limit: float
    used: float


def vcpus_of(instance_type: str) -> int:
    """The vCPUs of a type, from the table, or else computed from its size.

    The computed number is right for x86 families, and never too small for other families.

    >>> [vcpus_of(name) for name in ("t3.medium", "c7i.large", "g5.xlarge")]
    [2, 2, 4]
    >>> [vcpus_of(name) for name in ("p5.48xlarge", "c7i.metal-24xl")]
    [192, 96]
    """
    if row := INSTANCE_TYPES.get(instance_type):
        return row.vcpus
    size = instance_type.partition(".")[2]
    if size == "large":
        return 2
    if found := re.fullmatch(r"(\d*)xlarge|metal-(\d+)xl", size):
        return 4 * int(found[1] or found[2] or 1)
    return METAL_VCPUS if size.startswith("metal") else SMALL_VCPUS


def quota_code(instance_type: str, market: Market) -> str | None:
    """The code of the quota that a launch counts against; None if we do not know the quota.

    >>> quota_code("c7i.large", "spot"), quota_code("g5.xlarge", "on-demand")
    ('L-34B43A08', 'L-DB2E81BA')
    >>> quota_code("trn1.2xlarge", "spot")
    """
    if row := INSTANCE_TYPES.get(instance_type):
        return QUOTA_CODES[row.quota][market] if row.quota else None
    letters = re.match(r"[a-z]*", instance_type)
    name = letters[0] if letters else ""
    if name.startswith(OTHERS) or (market == "spot" and instance_type.startswith("p5")):
        return None
    family = FAMILIES.get("vt" if name.startswith("vt") else name[:1])
    return QUOTA_CODES[family][market] if family else None


def is_hopeless(instance_types: Iterable[str], market: Market, limits: Mapping[str, float]) -> bool:
    """Whether none of the types can ever start on a market, because the quotas are too small.

    :param limits: quota code → vCPUs. A quota that could not be read is left out; EC2 then decides.
    """
    return _shortest(tuple(instance_types), market, limits) is not None


def refuse_hopeless(
    instance_types: Iterable[str], market: Market, limits: Mapping[str, float]
) -> None:
    """Refuse a launch if none of its types can ever start, because the quotas are too small.

    :param limits: quota code → vCPUs. A quota that could not be read is left out; EC2 then decides.
    :raises LaunchRefusedError: with the quota, and the command that requests a larger one.
    """
    names = tuple(instance_types)
    short = _shortest(names, market, limits)
    if short is None:
        return
    code, needed = short
    other = "on-demand" if market == "spot" else "spot"
    raise LaunchRefusedError(
        f"the account's quota {code} allows {limits[code]:g} vCPUs of {market} machines, and the "
        f"smallest of {', '.join(names)} "
        f"has {needed}: ask for more (aws service-quotas request-service-quota-increase "
        f"--service-code ec2 --quota-code {code} "
        f"--desired-value {max(16, needed)}), or try compute.market: {other}"
    )


def refuse_hopeless_gang(
    seats: Sequence[tuple[str, ...]], market: Market, limits: Mapping[str, float]
) -> None:
    """Refuse machines that belong together if a quota can never hold all of them.

    A machine that may be of several quotas is not counted; EC2 then decides.

    :param seats: the types that each machine may have.
    :param limits: as in :func:`refuse_hopeless`.
    :raises LaunchRefusedError: with the quota, and the command that requests a larger one.
    """
    needed: Counter[str] = Counter()
    for names in seats:
        codes = {quota_code(name, market) for name in names}
        code = codes.pop() if len(codes) == 1 else None
        if code is not None:
            needed[code] += min(vcpus_of(name) for name in names)
    for code, vcpus in needed.items():
        if vcpus > limits.get(code, vcpus):
            other = "on-demand" if market == "spot" else "spot"
            raise LaunchRefusedError(
                f"the account's quota {code} allows {limits[code]:g} vCPUs of {market} machines, "
                f"and the {len(seats)} machines of a trial need at least {vcpus}: ask for more "
                "(aws service-quotas request-service-quota-increase --service-code ec2 "
                f"--quota-code {code} --desired-value {max(16, vcpus)}), lower compute.machines, "
                f"or try compute.market: {other}"
            )


def _shortest(
    names: tuple[str, ...], market: Market, limits: Mapping[str, float]
) -> tuple[str, int] | None:
    """The quota that is too small for the smallest type, and the vCPUs of that type.

    :return: None if a type fits, or if its quota is not known.
    """
    short: dict[str, int] = {}
    for name in names:
        code = quota_code(name, market)
        if code is None or code not in limits or limits[code] >= vcpus_of(name):
            return None
        short[code] = min(short.get(code, vcpus_of(name)), vcpus_of(name))
    return min(short.items(), key=lambda item: item[1], default=None)


def refusals_of_full(
    pools: Iterable[tuple[str, str]], market: Market, usage: Mapping[str, Usage]
) -> tuple[Refusal, ...]:
    """List the pools that have no room now. If one has room, the list is empty: EC2 then chooses.

    :param pools: (type, zone) of the request.
    :param usage: usage by quota code. A quota that could not be read is left out.
    """
    refusals = []
    for name, zone in pools:
        code = quota_code(name, market)
        room = usage.get(code) if code is not None else None
        if room is None or room.limit - room.used >= vcpus_of(name):
            return ()
        refusals.append(
            Refusal(
                instance_type=name,
                zone=zone,
                market=market,
                code=FULL[market],
                message=f"{room.used:g} of {room.limit:g} vCPUs of quota {code} are in use",
            )
        )
    return tuple(refusals)
