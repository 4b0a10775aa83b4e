"""IAM's simulation of a role's policies, with the condition keys that the caller gives.

The emulator's own simulation leaves out the context, the permissions boundary and all resources but
the first. Source:
https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from xml.sax.saxutils import escape

from local_aws.emulator import seams

DECISIONS = {"Allow": "allowed", "Deny": "explicitDeny", "ImplicitDeny": "implicitDeny"}
Parameters = Mapping[str, Any]


def install(account_id: str) -> None:
    """Answer SimulatePrincipalPolicy for roles; users keep the emulator's answer."""
    handlers = seams.seam("services.iam", "_IAM_HANDLERS")
    original = handlers["SimulatePrincipalPolicy"]

    def simulate(parameters: Parameters) -> Any:
        source = _text(parameters, "PolicySourceArn")
        if ":role/" not in source:
            return original(parameters)
        found = _results(parameters, source, account_id)
        return seams.module("services.iam")._xml(
            200,
            "SimulatePrincipalPolicyResponse",
            f"<SimulatePrincipalPolicyResult><EvaluationResults>{''.join(found)}"
            "</EvaluationResults><IsTruncated>false</IsTruncated></SimulatePrincipalPolicyResult>",
            ns="iam",
        )

    handlers["SimulatePrincipalPolicy"] = simulate


def _results(parameters: Parameters, source: str, account_id: str) -> Iterator[str]:
    """Yield the result for each action on each resource.

    The region of the simulated call is not known, unless the request gives it as a condition key.
    """
    evaluator = seams.module("core.iam_evaluator")
    name = source.rsplit("/", 1)[-1]
    policies = evaluator._gather_role_policies(name, account_id)
    roles = seams.module("services.iam")._roles
    limits = evaluator._permissions_boundary(roles, name, account_id)
    keys = _context(parameters)
    for action in _members(parameters, "ActionNames"):
        for resource in _members(parameters, "ResourceArns") or ["*"]:
            context = evaluator.EvalContext(
                principal_arn=f"arn:aws:sts::{account_id}:assumed-role/{name}/simulation",
                principal_type="AssumedRole",
                principal_account=account_id,
                action=action,
                resource_arn=resource,
                region=str(keys.get("aws:requestedregion", "")),
                service_context=keys,
            )
            result = evaluator.evaluate(context, policies, *limits)
            yield _result(action, resource, result, _missing(evaluator, context, policies))


def _result(action: str, resource: str, result: Any, missing: list[str]) -> str:
    """Return one result as XML."""
    matched = (
        f"<member><SourcePolicyId>{escape(result.matched_sid)}</SourcePolicyId></member>"
        if result.matched_sid
        else ""
    )
    keys = "".join(f"<member>{escape(key)}</member>" for key in missing)
    return (
        f"<member><EvalActionName>{escape(action)}</EvalActionName>"
        f"<EvalResourceName>{escape(resource)}</EvalResourceName>"
        f"<EvalDecision>{DECISIONS[result.decision]}</EvalDecision>"
        f"<MatchedStatements>{matched}</MatchedStatements>"
        f"<MissingContextValues>{keys}</MissingContextValues></member>"
    )


def _missing(evaluator: Any, context: Any, policies: list[list[Any]]) -> list[str]:
    """List the condition keys that matching statements read and the request does not give."""
    read = {
        key
        for statements in policies
        for statement in statements
        if evaluator._action_matches(context.action, statement.actions, statement.not_actions)
        and evaluator._resource_matches(
            context.resource_arn, statement.resources, statement.not_resources
        )
        for block in statement.conditions.values()
        for key in block
    }
    return sorted(key for key in read if key.lower() not in context.service_context)


def _context(parameters: Parameters) -> dict[str, Any]:
    """Return the condition keys that a request gives, in lower case as the evaluator wants them."""
    found: dict[str, Any] = {}
    for prefix in _prefixes(parameters, "ContextEntries", ".ContextKeyName"):
        values = _members(parameters, f"{prefix}.ContextKeyValues")
        name = _text(parameters, f"{prefix}.ContextKeyName").lower()
        found[name] = values[0] if len(values) == 1 else values
    return found


def _prefixes(parameters: Parameters, name: str, suffix: str = "") -> Iterator[str]:
    """Yield the names of a list's members, as the query protocol numbers them."""
    number = 1
    while _text(parameters, f"{name}.member.{number}{suffix}"):
        yield f"{name}.member.{number}"
        number += 1


def _members(parameters: Parameters, name: str) -> list[str]:
    """Return the members of a list of texts."""
    return [_text(parameters, prefix) for prefix in _prefixes(parameters, name)]


def _text(parameters: Parameters, name: str) -> str:
    """Return a parameter's text, or an empty one."""
    read: Callable[[Parameters, str], Any] = seams.module("services.iam")._p
    return str(read(parameters, name) or "")
