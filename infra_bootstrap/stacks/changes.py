"""The changes that a deployment would make, in words for a person."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from rl_lifecycle.records.record import Record


class ChangeKind(StrEnum):
    """What a deployment does to a resource."""

    ADDED = "added"
    CHANGED = "changed"
    REPLACED = "replaced"
    MAY_BE_REPLACED = "may be replaced"
    DELETED = "deleted"


class Change(Record):
    """The change of one resource.

    :param properties: the properties that change.
    """

    kind: ChangeKind
    resource: str
    type: str
    properties: tuple[str, ...] = ()


def read_changes(change_set: Mapping[str, Any]) -> tuple[Change, ...]:
    """Read the changes in DescribeChangeSet's answer."""
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
    """Translate CloudFormation's action and replacement into one kind.

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
    """List the resources of a new stack as changes."""
    return tuple(
        Change(kind=ChangeKind.ADDED, resource=name, type=str(resource["Type"]))
        for name, resource in resources.items()
    )


def completed(
    changes: Sequence[Change],
    before: Mapping[str, Mapping[str, Any]],
    after: Mapping[str, Mapping[str, Any]],
) -> tuple[Change, ...]:
    """Add resources that a parameter adds or removes, if the change set does not list them.

    A service that compares only the template's texts does not report them.

    :param before: the resources of the deployed stack, by logical id.
    :param after: the resources that the template makes now, by logical id.

    >>> [change.resource for change in completed((), {}, {"Nat": {"Type": "AWS::EC2::NatGateway"}})]
    ['Nat']
    """
    reported = {change.resource for change in changes}
    new = additions(
        {
            name: resource
            for name, resource in after.items()
            if name not in before and name not in reported
        }
    )
    gone = tuple(
        Change(kind=ChangeKind.DELETED, resource=name, type=str(resource["Type"]))
        for name, resource in before.items()
        if name not in after and name not in reported
    )
    return (*changes, *new, *gone)


def summary(changes: Iterable[Change]) -> str:
    """Count a plan's changes by kind.

    >>> added = [Change(kind=ChangeKind.ADDED, resource=name, type="T") for name in "AB"]
    >>> summary(added)
    '2 added'
    """
    counted: dict[str, int] = {}
    for change in changes:
        counted[change.kind] = counted.get(change.kind, 0) + 1
    return (
        ", ".join(f"{counted[kind]} {kind}" for kind in ChangeKind if kind in counted) or "nothing"
    )
