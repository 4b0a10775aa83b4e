"""What a deployment would change, as a person reads it."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from rl_lifecycle.records.record import Record


class ChangeKind(StrEnum):
    """What happens to a resource."""

    ADDED = "added"
    CHANGED = "changed"
    REPLACED = "replaced"
    MAY_BE_REPLACED = "may be replaced"
    DELETED = "deleted"


class Change(Record):
    """One resource of a plan."""

    kind: ChangeKind
    resource: str
    type: str
    properties: tuple[str, ...] = ()


def read_changes(change_set: Mapping[str, Any]) -> tuple[Change, ...]:
    """Read the changes off DescribeChangeSet's answer."""
    return tuple(
        _read(item["ResourceChange"])
        for item in change_set.get("Changes", ())
        if "ResourceChange" in item
    )


def _read(change: Mapping[str, Any]) -> Change:
    properties = {
        detail["Target"].get("Name") or detail["Target"].get("Attribute", "")
        for detail in change.get("Details", ())
        if "Target" in detail
    }
    return Change(
        kind=_kind(str(change["Action"]), str(change.get("Replacement", ""))),
        resource=change["LogicalResourceId"],
        type=change["ResourceType"],
        properties=tuple(sorted(filter(None, properties))),
    )


def _kind(action: str, replacement: str) -> ChangeKind:
    """Translate CloudFormation's two words into one.

    >>> _kind("Modify", "Conditional")
    <ChangeKind.MAY_BE_REPLACED: 'may be replaced'>
    """
    if action == "Add":
        return ChangeKind.ADDED
    if action == "Remove":
        return ChangeKind.DELETED
    return {"True": ChangeKind.REPLACED, "Conditional": ChangeKind.MAY_BE_REPLACED}.get(
        replacement, ChangeKind.CHANGED
    )


def additions(resources: Mapping[str, Mapping[str, Any]]) -> tuple[Change, ...]:
    """What a new stack would make."""
    return tuple(
        Change(kind=ChangeKind.ADDED, resource=name, type=str(resource["Type"]))
        for name, resource in resources.items()
    )


def completed(
    changes: Sequence[Change],
    before: Mapping[str, Mapping[str, Any]],
    after: Mapping[str, Mapping[str, Any]],
) -> tuple[Change, ...]:
    """Add what comes and goes with a parameter alone, where a change set compared texts and does
    not say so.

    >>> [change.resource for change in completed((), {}, {"Nat": {"Type": "AWS::EC2::NatGateway"}})]
    ['Nat']
    """
    told = {change.resource for change in changes}
    new = additions(
        {
            name: resource
            for name, resource in after.items()
            if name not in before and name not in told
        }
    )
    gone = tuple(
        Change(kind=ChangeKind.DELETED, resource=name, type=str(resource["Type"]))
        for name, resource in before.items()
        if name not in after and name not in told
    )
    return (*changes, *new, *gone)


def summary(changes: Iterable[Change]) -> str:
    """Count a plan's changes.

    >>> summary([Change(kind=ChangeKind.ADDED, resource="A", type="T"), Change(kind=ChangeKind.ADDED, resource="B", type="T")])
    '2 added'
    """
    counted: dict[str, int] = {}
    for change in changes:
        counted[change.kind] = counted.get(change.kind, 0) + 1
    return (
        ", ".join(f"{counted[kind]} {kind}" for kind in ChangeKind if kind in counted) or "nothing"
    )
