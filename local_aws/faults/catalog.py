"""The kinds of fault and their parameters, with the checks of their values.

The command line reads this module, so it needs only the standard library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local_aws.errors import FaultScriptError

Values = dict[str, Any]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a fault.

    :param default: the value if the parameter is not given. None: it has no default.
    """

    kind: type
    default: Any
    text: str


WHEN = {
    "rate": Parameter(float, 1.0, "share of the cases in which it occurs, from 0 to 1"),
    "count": Parameter(int, None, "how often it occurs at most"),
    "after_s": Parameter(float, 0.0, "seconds before it begins"),
    "for_s": Parameter(float, None, "seconds after which it ends"),
}
"""The parameters that every fault has."""
CALL = {
    "service": Parameter(str, "*", "service, such as ec2, s3, lambda; * for all"),
    "action": Parameter(str, "*", "API action, with * and ?, such as Describe*"),
    "role": Parameter(str, "*", "role of the caller, with * and ?"),
    "key": Parameter(str, "*", "for s3: bucket/key, with * and ?"),
}
MACHINE = {
    "instance": Parameter(str, "*", "instance id, with * and ?"),
    "tag": Parameter(str, None, "Key=Value that the instance must have; * and ? in the value"),
    "at_key": Parameter(str, None, "wait until the instance writes a matching bucket/key"),
    "at_field": Parameter(str, None, "… whose JSON has this field (dots for nested fields)"),
    "at_least": Parameter(float, None, "… of at least this value"),
    "at_count": Parameter(int, 1, "… for the n-th time"),
}
FUNCTION = {"function": Parameter(str, "*", "function name, with * and ?")}


KEY_REASONS = ("Client.InternalError", "Client.InvalidKMSKey.InvalidState")
"""The codes with which an instance ends if EC2 may not use the key of its disks."""


POLICIES = {
    "identity": "identity-based policy",
    "scp": "service control policy",
    "boundary": "permissions boundary",
}
"""How messages of AWS name the kind of policy that denies a call, by the name in the fault:
https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html"""


@dataclass(frozen=True)
class FaultKind:
    """A kind of fault.

    :param machine: whether it affects an instance. It then occurs once, unless `count` is given.
    """

    text: str
    own: Mapping[str, Parameter]
    machine: bool = False

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Its own parameters and those that every fault has."""
        return {**self.own, **WHEN}


KINDS: dict[str, FaultKind] = {
    "capacity": FaultKind(
        "launches are refused for lack of machines",
        {
            "type": Parameter(str, "*", "instance type, with * and ?"),
            "zone": Parameter(str, "*", "availability zone, with * and ?"),
            "market": Parameter(str, "*", "spot, on-demand or *"),
            "code": Parameter(str, "InsufficientInstanceCapacity", "EC2's error code"),
        },
    ),
    "interrupt": FaultKind(
        "a spot instance is interrupted",
        {
            **MACHINE,
            "notice_s": Parameter(float, 120.0, "seconds between notice and end; 0 for no notice"),
        },
        machine=True,
    ),
    "rebalance": FaultKind("an instance is recommended for rebalancing", MACHINE, machine=True),
    "kill": FaultKind(
        "an instance's host fails: its processes are gone at once", MACHINE, machine=True
    ),
    "hang": FaultKind(
        "an instance hangs: alive, but nothing moves, until the fault is cleared",
        MACHINE,
        machine=True,
    ),
    "throttle": FaultKind("calls are refused for coming too often", CALL),
    "error": FaultKind(
        "calls fail inside AWS, without effect",
        {**CALL, "status": Parameter(int, 500, "500 or 503")},
    ),
    "slow": FaultKind(
        "calls take longer", {**CALL, "seconds": Parameter(float, 2.0, "how much longer")}
    ),
    "lose_response": FaultKind(
        "calls take effect, but the connection breaks before their answer", CALL
    ),
    "conflict": FaultKind(
        "conditional writes meet a concurrent one: 409 ConditionalRequestConflict",
        {
            "role": CALL["role"],
            "key": CALL["key"],
        },
    ),
    "deny": FaultKind(
        "a permission is taken away",
        {
            "role": CALL["role"],
            "action": Parameter(str, None, "IAM action, with * and ?, such as s3:PutObject"),
            "by": Parameter(str, "identity", f"the kind of policy: {' or '.join(POLICIES)}"),
        },
    ),
    "expire_credentials": FaultKind(
        "the sessions of a role end now; who asks gets new ones", {"role": CALL["role"]}
    ),
    "short_credentials": FaultKind(
        "credentials that services hand out live shorter",
        {
            "seconds": Parameter(float, 900.0, "how long they live"),
        },
    ),
    "function_timeout": FaultKind("a function runs into its time limit", FUNCTION),
    "function_crash": FaultKind("a function's runtime is killed", FUNCTION),
    "duplicate_event": FaultKind("an asynchronous event is delivered twice", FUNCTION),
    "lost_event": FaultKind("an asynchronous event is never delivered", FUNCTION),
    "used_token": FaultKind(
        "a fleet's client token is refused once its instances have ended",
        {"answer": Parameter(str, "error", "error: the call fails; list: its answer lists errors")},
    ),
    "default_key": FaultKind(
        "disks are encrypted with a key of the account that launches may not use",
        {"reason": Parameter(str, "Client.InternalError", " or ".join(KEY_REASONS))},
    ),
    "quota": FaultKind(
        "a quota has another value",
        {
            "code": Parameter(str, "*", "the quota's code, with * and ?, such as L-34B43A08"),
            "value": Parameter(float, 0.0, "its value"),
        },
    ),
    "closed_region": FaultKind(
        "the account has not enabled a region, which refuses all credentials",
        {"region": Parameter(str, None, "the region, with * and ?, such as af-south-1")},
    ),
    "late_visibility": FaultKind(
        "a new instance is not found for as long as you say",
        {"seconds": Parameter(float, 1.0, "how long")},
    ),
}


def read(kind: str, given: Mapping[str, Any]) -> Values:
    """Return the parameters of a fault, with defaults.

    :raises FaultScriptError: for an unknown kind or parameter, or a wrong value; it names the known
        kinds or parameters.
    """
    if kind not in KINDS:
        raise FaultScriptError(f"there is no fault {kind!r}; there are {', '.join(KINDS)}")
    known = KINDS[kind].parameters
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise FaultScriptError(f"{kind} has no parameter {unknown[0]!r}; it has {', '.join(known)}")
    values = {
        name: _value(kind, name, parameter, given.get(name)) for name, parameter in known.items()
    }
    if kind == "deny" and values["by"] not in POLICIES:
        raise FaultScriptError(f"deny: by is {' or '.join(POLICIES)}, not {values['by']!r}")
    if kind == "closed_region" and not values["region"]:
        raise FaultScriptError("closed_region needs a region, such as region=af-south-1")
    if kind == "deny" and not values["action"]:
        raise FaultScriptError("deny needs an action, such as action=s3:PutObject")
    if kind == "used_token" and values["answer"] not in ("error", "list"):
        raise FaultScriptError(f"used_token: answer is error or list, not {values['answer']!r}")
    if kind == "default_key" and values["reason"] not in KEY_REASONS:
        raise FaultScriptError(
            f"default_key: reason is {' or '.join(KEY_REASONS)}, not {values['reason']!r}"
        )
    if not 0 <= values["rate"] <= 1:
        raise FaultScriptError(f"{kind}: rate is a share from 0 to 1, not {values['rate']}")
    if KINDS[kind].machine and values["count"] is None:
        values["count"] = 1
    return values


def _value(kind: str, name: str, parameter: Parameter, given: Any) -> Any:
    """Return one value, converted to its type."""
    if given is None:
        return parameter.default
    try:
        return parameter.kind(given)
    except (TypeError, ValueError):
        raise FaultScriptError(
            f"{kind}: {name} must be {'a number' if parameter.kind in (int, float) else 'text'}, "
            f"not {given!r}"
        ) from None
