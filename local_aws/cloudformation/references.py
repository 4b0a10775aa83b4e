"""Finds references to names that a template does not define.

CloudFormation refuses such a template before it creates anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

IN_TEXT = re.compile(r"\$\{([^!}][^}]*)\}")
Template = Mapping[str, Any]


def unresolved(template: Template) -> list[str]:
    """List the names that the template's resources refer to and that the template does not define.

    Names in conditions are not examined.

    >>> properties = {"B": {"Ref": "C"}, "D": {"Fn::Sub": "${A.Arn} ${AWS::Region} ${E}"}}
    >>> unresolved({"Resources": {"A": {"Properties": properties}}})
    ['C', 'E']
    """
    known = {*template.get("Resources", {}), *template.get("Parameters", {})}
    named = {
        name for resource in template.get("Resources", {}).values() for name in references(resource)
    }
    return sorted(name for name in named if name not in known and not name.startswith("AWS::"))


def references(node: Any) -> Iterator[str]:
    """Yield every logical name to which a part of a template refers."""
    if isinstance(node, list):
        for item in node:
            yield from references(item)
    elif isinstance(node, Mapping):
        for key, value in node.items():
            if key == "Ref" and isinstance(value, str):
                yield value
            elif key == "Fn::GetAtt":
                yield str(value[0] if isinstance(value, list) else value).split(".")[0]
            elif key == "Fn::Sub":
                yield from _in_text(value)
            else:
                yield from references(value)


def _in_text(value: Any) -> Iterator[str]:
    """Yield the names in a `Fn::Sub`, except those of its own variables."""
    text, own = (value[0], value[1]) if isinstance(value, list) and len(value) == 2 else (value, {})
    yield from (
        name
        for found in IN_TEXT.findall(str(text))
        if (name := found.strip().split(".")[0]) not in own
    )
    yield from references(own)
