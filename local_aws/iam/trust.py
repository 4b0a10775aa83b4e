"""Refuses malformed trust policies as IAM does.

The emulator accepts any text, but no service could ever assume such a role.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from local_aws.emulator.wire import read_form, request_id

Response = tuple[int, dict[str, str], bytes]
DOCUMENTS = {"CreateRole": "AssumeRolePolicyDocument", "UpdateAssumeRolePolicy": "PolicyDocument"}
"""The parameter that contains a trust policy, by action."""
ELEMENTS = {"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Condition"}
PRINCIPALS = {"AWS", "Service", "Federated", "CanonicalUser"}


class IamFront:
    """The handler in front of the emulator's IAM."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def __call__(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        query: Mapping[str, Any],
    ) -> Response:
        """Serve one request. The emulator has authorized the caller before."""
        form = read_form(body)
        document = form.get(DOCUMENTS.get(form.get("Action", ""), ""))
        if document is not None and (problem := find_problem(document)):
            return refusal(problem)
        answer: Response = await self._inner(method, path, headers, body, query)
        return answer


def refusal(message: str) -> Response:
    """Return the error MalformedPolicyDocument in IAM's form."""
    body = (
        "<ErrorResponse "
        'xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>Sender</Type>'
        f"<Code>MalformedPolicyDocument</Code><Message>{escape(message)}</Message></Error>"
        f"<RequestId>{request_id()}</RequestId></ErrorResponse>"
    )
    return 400, {"Content-Type": "text/xml"}, body.encode()


def find_problem(document: Any) -> str | None:
    """Return what makes a trust policy malformed, or None.

    :param document: the policy as text, or in the form that a template holds.

    >>> find_problem("{}")
    'Syntax errors in policy.'
    >>> find_problem('{"Statement": {"Effect": "Allow", "Action": "sts:AssumeRole"}}')
    'Missing required field Principal'
    """
    try:
        policy = json.loads(document) if isinstance(document, str) else document
    except ValueError:
        return "This policy contains invalid Json"
    if (
        not isinstance(policy, Mapping)
        or not policy.get("Statement")
        or set(policy) - {"Version", "Id", "Statement"}
    ):
        return "Syntax errors in policy."
    statements = (
        policy["Statement"] if isinstance(policy["Statement"], list) else [policy["Statement"]]
    )
    return next(
        (problem for statement in statements if (problem := _find_in_statement(statement))), None
    )


def _find_in_statement(statement: Any) -> str | None:
    """Return what is wrong with one statement, or None."""
    if not isinstance(statement, Mapping):
        return "Syntax errors in policy."
    if {"Resource", "NotResource"} & set(statement):
        return "Has prohibited field Resource"
    if set(statement) - ELEMENTS or statement.get("Effect") not in ("Allow", "Deny"):
        return "Syntax errors in policy."
    if not {"Principal", "NotPrincipal"} & set(statement):
        return "Missing required field Principal"
    principal = statement.get("Principal", "*")
    if principal != "*" and not (
        isinstance(principal, Mapping) and principal and set(principal) <= PRINCIPALS
    ):
        return "Invalid principal in policy"
    return _find_in_actions(statement.get("Action", statement.get("NotAction")))


def _find_in_actions(actions: Any) -> str | None:
    """Return what is wrong with the actions of a statement, or None."""
    named = [actions] if isinstance(actions, str) else actions
    if not named:
        return "Missing required field Action"
    if not all(isinstance(action, str) for action in named):
        return "Syntax errors in policy."
    if any(action != "*" and not action.lower().startswith("sts:") for action in named):
        return "AssumeRole policy may only specify STS AssumeRole actions."
    return None
