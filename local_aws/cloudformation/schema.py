"""Checks properties as CloudFormation's schema check does: unknown and missing ones are refused."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Tree = Mapping[str, Any]


class SchemaError(ValueError):
    """Properties that do not fit their type."""


@functools.cache
def known_types() -> dict[str, Any]:
    """Return the properties of each type; see :mod:`local_aws.cloudformation.make_properties`."""
    return dict(json.loads(Path(__file__).with_name("properties.json").read_text()))


def check(kind: str, properties: Tree) -> None:
    """Check a resource's properties against its type.

    Types that are not in the table are left to the emulator, which refuses those that it cannot
    create.

    :raises SchemaError: naming every extraneous or missing property, with CloudFormation's message.
    """
    known = known_types().get(kind)
    if known is None:
        return
    wrong = [
        f"#{path}: extraneous key [{name}] is not permitted"
        for path, name in extraneous(properties, known["properties"], "")
    ]
    wrong += [
        f"#: required key [{name}] not found"
        for name in known["required"]
        if name not in properties
    ]
    if wrong:
        raise SchemaError(
            f"Properties validation failed for resource of type {kind} with message: "
            f"[{', '.join(wrong)}]"
        )


def extraneous(value: Any, tree: Tree | None, path: str) -> Iterator[tuple[str, str]]:
    """Yield the path and the name of each key that a type does not have.

    >>> list(extraneous({"A": [{"B": 1, "C": 2}]}, {"A": {"B": None}}, ""))
    [('/A/0', 'C')]
    """
    if tree is None:
        return
    if isinstance(value, list):
        for n, item in enumerate(value):
            yield from extraneous(item, tree, f"{path}/{n}")
    elif isinstance(value, Mapping):
        for name, below in value.items():
            if name not in tree:
                yield path, name
            else:
                yield from extraneous(below, tree[name], f"{path}/{name}")
