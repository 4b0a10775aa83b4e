"""Read the templates as data: parameters, conditions and resources, without calling AWS."""

import ipaddress
import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import yaml

from infra_bootstrap.errors import BadInputError
from infra_bootstrap.stacks.concerns import MOST_TEMPLATE_BYTES, Concern, template_text

Template = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """A YAML loader that reads CloudFormation's short forms, such as `!Ref`, as the long ones."""


def _long_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    key = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if suffix == "GetAtt":
            value = str(value).split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]
    return {key: value}


_Loader.add_multi_constructor("!", _long_form)
# Dates stay text, because a template's version is a date.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse(text: str) -> Template:
    """Read a template's text."""
    return dict(yaml.load(text, Loader=_Loader))  # noqa: S506  a SafeLoader with CloudFormation's tags


@cache
def template(name: str) -> Template:
    """Read a template in this version of the project.

    :param name: the concern of a stack, or `experiment`.
    """
    return parse(template_text(name))


def template_body(name: str) -> str:
    """Write a template as it is sent: as JSON without white space.

    White space and comments would count towards CloudFormation's limit.

    :param name: the concern of a stack, or `experiment`.
    :raises BadInputError: if the template is larger than CloudFormation allows.
    """
    text = json.dumps(template(name), separators=(",", ":"))
    if len(text.encode()) > MOST_TEMPLATE_BYTES:
        raise BadInputError(
            f"templates/{name}.yaml has {len(text.encode())} bytes as JSON; CloudFormation "
            f"takes {MOST_TEMPLATE_BYTES}"
        )
    return text


def deployed_template(body: object) -> Template:
    """Read the body of a deployed template that CloudFormation returns.

    :param body: botocore reads JSON, and leaves YAML, which older versions of the project sent, as
        text.
    """
    return dict(body) if isinstance(body, Mapping) else parse(str(body))


def parameters_of(concern: Concern) -> dict[str, dict[str, Any]]:
    """Return the parameters that a stack's template declares."""
    return dict(template(concern)["Parameters"])


def check_parameters(given: Mapping[str, str]) -> None:
    """Check that a template declares each parameter, and allows its value.

    :raises BadInputError: if not. The message says what is allowed.
    """
    for name, value in given.items():
        found = [
            parameters_of(concern)[name] for concern in Concern if name in parameters_of(concern)
        ]
        if not found:
            known = sorted(
                {key for concern in Concern for key in parameters_of(concern)} - {"Environment"}
            )
            raise BadInputError(
                f"--parameter {name}: no template has it; they have {', '.join(known)}"
            )
        for declared in found:
            check_value(name, value, declared)


def check_value(name: str, value: str, declared: Mapping[str, Any]) -> None:
    """Check a value against a parameter's declaration, as CloudFormation would.

    :raises BadInputError: if it is not allowed. The message says what is.
    """
    allowed, pattern = declared.get("AllowedValues"), declared.get("AllowedPattern")
    if allowed and value not in [str(item) for item in allowed]:
        raise BadInputError(f"{name}={value}: choose one of {', '.join(map(str, allowed))}")
    if pattern and not re.fullmatch(str(pattern), value):
        raise BadInputError(
            f"{name}={value}: must be {declared.get('ConstraintDescription', pattern)}"
        )
    if name.endswith("Cidr"):
        _check_cidr(name, value)
    if declared["Type"] == "Number":
        _check_number(name, value, declared)


def _check_cidr(name: str, value: str) -> None:
    """Check that a value is an address range. A pattern alone would accept 256 in an address."""
    try:
        ipaddress.ip_network(value)
    except ValueError as error:
        whole = _range_around(value)
        raise BadInputError(
            f"{name}={value}: {error}; "
            + (f"write {whole}" if whole else "write for example 10.64.0.0/16")
        ) from None


def _range_around(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        return ""


def _check_number(name: str, value: str, declared: Mapping[str, Any]) -> None:
    low, high = declared.get("MinValue"), declared.get("MaxValue")
    try:
        number = float(value)
    except ValueError:
        raise BadInputError(f"{name}={value}: must be a number") from None
    if (low is not None and number < float(low)) or (high is not None and number > float(high)):
        raise BadInputError(f"{name}={value}: must lie between {low} and {high}")


def resources_made(concern: str, values: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the resources of a stack whose condition holds with these parameters.

    :param values: parameters by name, and `AWS::Region`. A parameter that is missing has its
        default.
    """
    return resources_of(template(concern), values)


def resources_of(document: Template, values: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the resources of any template, such as the deployed one, whose condition holds."""
    known = {
        name: str(declared.get("Default", "")) for name, declared in document["Parameters"].items()
    } | dict(values)
    conditions = document.get("Conditions", {})
    return {
        name: resource
        for name, resource in document["Resources"].items()
        if "Condition" not in resource
        or _holds(conditions[resource["Condition"]], conditions, known)
    }


def condition_holds(concern: str, name: str, values: Mapping[str, str]) -> bool:
    """Tell whether a condition of a template holds with these parameters."""
    conditions = template(concern).get("Conditions", {})
    return _holds(conditions[name], conditions, values)


def _holds(expression: Any, conditions: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    """Evaluate a condition. Our templates use Not, And, Or, Equals, Condition and Ref."""
    ((function, operand),) = expression.items()
    if function == "Fn::Not":
        return not _holds(operand[0], conditions, values)
    if function in ("Fn::And", "Fn::Or"):
        parts = [_holds(item, conditions, values) for item in operand]
        return all(parts) if function == "Fn::And" else any(parts)
    if function == "Fn::Equals":
        left, right = (_text(item, values) for item in operand)
        return left == right
    if function == "Condition":
        return _holds(conditions[operand], conditions, values)
    raise BadInputError(f"templates use {function} in a condition, which the plan cannot evaluate")


def _text(item: Any, values: Mapping[str, str]) -> str:
    return values.get(item["Ref"], "") if isinstance(item, dict) else str(item)
