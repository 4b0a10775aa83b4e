"""The deployer may call what the handlers of CloudFormation call, as its resource schemas say.

Source: https://docs.aws.amazon.com/cloudformation-cli/latest/userguide/resource-type-schema.html
(`handlers` and `tagging`); the schemas are those that cfn-lint contains.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from infra_bootstrap.stacks.concerns import Concern
from infra_bootstrap.stacks.template_files import template

EXCEPTIONS = Path(__file__).with_name("handler_permissions.yaml")
#: Stack operations call these handlers. `list` serves searches for resources outside a stack.
HANDLERS = ("create", "read", "update", "delete")
REGION = "us-east-1"


def deployed_types() -> list[str]:
    """List the types of all stacks that CloudFormation deploys as the deployer."""
    return sorted(
        {
            resource["Type"]
            for concern in set(Concern) - {Concern.IDENTITY}
            for resource in template(concern)["Resources"].values()
        }
    )


@cache
def schema(kind: str) -> Mapping[str, Any]:
    """Return a type's schema."""
    return PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema


def asked_for(kind: str) -> set[str]:
    """Return the permissions that the handlers of a type, and its tags, need."""
    found = schema(kind)
    by_handler = [found.get("handlers", {}).get(name, {}) for name in HANDLERS]
    return {
        action
        for part in (*by_handler, found.get("tagging", {}))
        for action in part.get("permissions", ())
    }


def actions(statements: Iterable[Any], effect: str) -> Iterator[str]:
    """Yield the actions of statements with one effect, also of those behind a condition."""
    for statement in statements:
        found = statement["Fn::If"][1] if "Fn::If" in statement else statement
        if found["Effect"] == effect:
            listed = found["Action"]
            yield from [listed] if isinstance(listed, str) else listed


def matches(action: str, patterns: Iterable[str]) -> bool:
    """Tell whether a pattern names an action. IAM ignores the case of actions."""
    return any(fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)


@cache
def role() -> tuple[str, ...]:
    """Return the actions that the deployer's own policies allow."""
    policies = template(Concern.IDENTITY)["Resources"]["DeployerRole"]["Properties"]["Policies"]
    return tuple(
        action
        for policy in policies
        for action in actions(policy["PolicyDocument"]["Statement"], "Allow")
    )


@cache
def boundary(effect: str) -> tuple[str, ...]:
    """Return the actions of the deployer's boundary that have one effect."""
    found = template(Concern.IDENTITY)["Resources"]["DeployerBoundary"]["Properties"]
    return tuple(actions(found["PolicyDocument"]["Statement"], effect))


def exceptions() -> dict[str, list[dict[str, Any]]]:
    """Return the permissions that the deployer lacks on purpose, by type."""
    return dict(yaml.safe_load(EXCEPTIONS.read_text()))


def excepted(kind: str) -> list[str]:
    """Return the patterns of the permissions that a type may go without."""
    return [pattern for group in exceptions().get(kind, ()) for pattern in group["actions"]]


@pytest.mark.parametrize("kind", deployed_types())
def test_the_deployer_may_do_what_the_handlers_of_a_type_do(kind: str) -> None:
    """The role allows each permission of a type's handlers and tags, or has a reason not to."""
    asked = asked_for(kind)
    assert asked, f"the schema of {kind} names no permission"
    missing = {action for action in asked if not matches(action, role())}
    unexplained = sorted(action for action in missing if not matches(action, excepted(kind)))
    assert not unexplained, (
        f"DeployerRole lacks what {kind} needs: allow it there and in DeployerBoundary, or give "
        f"a reason in {EXCEPTIONS.name}: {unexplained}"
    )


@pytest.mark.parametrize("kind", deployed_types())
def test_the_boundary_allows_what_the_role_allows_for_a_type(kind: str) -> None:
    """The boundary takes away no permission of a type that the role has."""
    held = [action for action in asked_for(kind) if matches(action, role())]
    cut = sorted(
        action
        for action in held
        if not matches(action, boundary("Allow")) or matches(action, boundary("Deny"))
    )
    assert not cut, f"DeployerBoundary takes away what {kind} needs: {cut}"


@pytest.mark.parametrize("pattern", sorted({p for p in role() if "*" not in p}))
def test_the_boundary_takes_nothing_from_the_role(pattern: str) -> None:
    """The boundary allows each action that the role names, so none is without effect."""
    assert matches(pattern, boundary("Allow")), f"DeployerBoundary lacks {pattern}"
    assert not matches(pattern, boundary("Deny")), f"DeployerBoundary denies {pattern}"


@pytest.mark.parametrize("kind", sorted(exceptions()))
def test_an_exception_that_is_no_longer_needed_is_removed(kind: str) -> None:
    """Each exception still names a permission that a handler asks for and the role lacks."""
    assert kind in deployed_types(), f"no template has {kind}: remove it from {EXCEPTIONS.name}"
    missing = [action for action in asked_for(kind) if not matches(action, role())]
    stale = [p for p in excepted(kind) if not any(matches(action, [p]) for action in missing)]
    assert not stale, f"{kind}: remove from {EXCEPTIONS.name}: {stale}"
    assert all(len(group["reason"].split()) >= 6 for group in exceptions()[kind])
