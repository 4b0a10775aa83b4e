"""Label the evaluator's version, so that a changed function is also what its alias runs.

A published version of a function never changes, and CloudFormation publishes another one only if
a property of `AWS::Lambda::Version` changes. A change of memory, time limit or environment alone
changes only `$LATEST`, and the alias would still run the old settings. So the label, which is a
part of the version's description, holds a digest of everything that a version is made of.

The function's description holds the label, too. Lambda refuses to publish a version of a function
that did not change, and so every new label changes the function.
Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-versions.html
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from infra_bootstrap.stacks.template_files import Template
from rl_lifecycle.records.record import canonical_json, sha256_hex

#: The functions that play and judge. One label names the versions of all of them.
FUNCTIONS = ("Evaluator", "Player", "Judge")
LABEL = "EvaluatorVersionLabel"
#: Properties of a function that belong to the function itself and not to its versions.
NOT_VERSIONED = frozenset({"ReservedConcurrentExecutions", "RecursiveLoop", "Tags"})
#: A resource of this type is replaced by every change, so a change of it changes the function.
LAYER = "AWS::Lambda::LayerVersion"
_SUBSTITUTION = re.compile(r"\$\{([^!}.][^}.]*)\}")


def version_label(document: Template, values: Mapping[str, str]) -> str:
    """Label a version of the evaluator by everything that it is made of.

    :param document: the template of the evaluation stack.
    :param values: the stack's parameters by name. A parameter that is missing has its default.
    :return: the digests of code and layer for people, and a digest of all settings.
    """
    versioned: list[Any] = [
        {name: value for name, value in properties.items() if name not in NOT_VERSIONED}
        for properties in (document["Resources"][one]["Properties"] for one in FUNCTIONS)
    ]
    versioned += [
        document["Resources"][name]["Properties"]
        for name in sorted(set(references(versioned)))
        if document["Resources"].get(name, {}).get("Type") == LAYER
    ]
    declared = document["Parameters"]
    used = {
        name: values.get(name, str(declared[name].get("Default", "")))
        for name in set(references(versioned)) - {LABEL}
        if name in declared
    }
    settings = sha256_hex(canonical_json([versioned, used]))[:12]
    code, layer = (_digest(values.get(f"Evaluator{part}Key", "")) for part in ("Code", "Layer"))
    return f"code {code} layer {layer} settings {settings}"


def references(node: Any) -> Iterator[str]:
    """Yield the parameters and resources that a part of a template refers to.

    >>> list(references({"A": [{"Ref": "B"}, {"Fn::Sub": "${C} ${D.Arn} ${AWS::Region}"}]}))
    ['B', 'C', 'AWS::Region']
    """
    if isinstance(node, list):
        for item in node:
            yield from references(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "Ref":
                yield str(value)
            elif key == "Fn::Sub" and isinstance(value, str):
                yield from _SUBSTITUTION.findall(value)
            else:
                yield from references(value)


def _digest(key: str) -> str:
    """Return the first digits of the digest in an artifact's key."""
    return key.split("/")[1][:12] if key.count("/") > 1 else "none"
