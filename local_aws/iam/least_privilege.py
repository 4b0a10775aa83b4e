"""Compares the actions that a role's policies allow with the actions that the role has used.

Actions that were never used could be removed from the policies.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient

Report = dict[str, Any]
Statement = Mapping[str, Any]


def report(
    iam: IAMClient, usage: Iterable[Mapping[str, Any]], pattern: str = "*"
) -> dict[str, Report]:
    """Return, for each role, its used, denied and never used actions.

    Used and denied actions come with their number of calls.

    :param iam: a client of IAM.
    :param usage: the counts since the server's start, as
        :class:`local_aws.iam.authorization.UsageRecord` lists them.
    :param pattern: a pattern of role names.
    """
    counted = list(usage)
    names = [
        role["RoleName"]
        for page in iam.get_paginator("list_roles").paginate()
        for role in page["Roles"]
    ]
    return {
        name: _of_role(iam, name, counted)
        for name in sorted(names)
        if fnmatch.fnmatchcase(name, pattern)
    }


def _of_role(iam: IAMClient, name: str, usage: list[Mapping[str, Any]]) -> Report:
    """Return the report of one role."""
    own = [entry for entry in usage if entry["role"] == name]
    used, denied = (
        {e["action"]: e["count"] for e in own if e["decision"] == kind}
        for kind in ("allowed", "denied")
    )
    allowed = {action for document in documents(iam, name) for action in allowed_actions(document)}
    return {"used": used, "denied": denied, "never_used": sorted(unused(allowed, used))}


def documents(iam: IAMClient, name: str) -> Iterator[Any]:
    """Yield every policy document of a role: its inline policies and its attached policies."""
    for policy_name in iam.list_role_policies(RoleName=name)["PolicyNames"]:
        yield iam.get_role_policy(RoleName=name, PolicyName=policy_name)["PolicyDocument"]
    for attached in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
        version = iam.get_policy(PolicyArn=attached["PolicyArn"])["Policy"]["DefaultVersionId"]
        yield iam.get_policy_version(PolicyArn=attached["PolicyArn"], VersionId=version)[
            "PolicyVersion"
        ]["Document"]


def allowed_actions(document: Any) -> set[str]:
    """Return the actions that a policy allows. Patterns are returned as they are written.

    >>> sorted(allowed_actions({"Statement": [
    ...     {"Effect": "Allow", "Action": ["s3:Get*", "s3:PutObject"], "Resource": "*"}]}))
    ['s3:Get*', 's3:PutObject']
    """
    policy = json.loads(document) if isinstance(document, str) else document
    statements = (
        policy["Statement"] if isinstance(policy["Statement"], list) else [policy["Statement"]]
    )
    return {
        action
        for statement in statements
        if statement["Effect"] == "Allow"
        for action in _actions(statement)
    }


def _actions(statement: Statement) -> list[str]:
    """Return the actions of a statement. A statement with `NotAction` counts as `*`."""
    found = statement.get("Action", "*")
    return [found] if isinstance(found, str) else list(found)


def unused(allowed: Iterable[str], used: Iterable[str]) -> set[str]:
    """Return the patterns that match no used action. IAM ignores the case of actions.

    >>> sorted(unused({"s3:Get*", "s3:PutObject", "ec2:*"}, ["s3:GetObject"]))
    ['ec2:*', 's3:PutObject']
    """
    seen = [action.lower() for action in used]
    return {
        pattern
        for pattern in allowed
        if not any(fnmatch.fnmatchcase(action, pattern.lower()) for action in seen)
    }
