"""Authorization where the emulator is less exact than AWS, and counts of the used permissions.

The emulator evaluates identity policies, boundaries, session policies and bucket policies. This
module adds policy variables, the condition keys of conditional S3 writes, VPC endpoint policies,
and the checks that EC2 makes on each resource of a call.
"""

from __future__ import annotations

import collections
import contextvars
import dataclasses
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local_aws.emulator import seams

VARIABLE = re.compile(r"\$\{([^}]*)\}")
PUBLIC_PARAMETER = re.compile(r"^(arn:aws:ssm:[^:]*):\d+:parameter/aws/service/")
"""Parameters that AWS publishes belong to no account:
https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-public-parameters.html"""
LITERALS = {"*": "*", "?": "?", "$": "$"}
Headers = Mapping[str, str]


IDENTITY_POLICY = "identity-based policy"
DENIED_BY: contextvars.ContextVar[str | None] = contextvars.ContextVar("denied_by", default=None)
"""The kind of policy with which a fault has denied the current request."""


@dataclass(frozen=True)
class Denial:
    """A refusal: the principal that was refused, and whether a policy denies it explicitly.

    :param policy: the kind of policy that denies it explicitly, as messages name it.
    """

    principal_arn: str
    explicit: bool
    policy: str = IDENTITY_POLICY

    def reason(self, action: str) -> str:
        """Return the end of the message with which services refuse the action."""
        if self.explicit:
            return f"with an explicit deny in {article(self.policy)} {self.policy}"
        return f"because no identity-based policy allows the {action} action"


def article(words: str) -> str:
    """Return the indefinite article of a kind of policy.

    >>> article("identity-based policy"), article("service control policy")
    ('an', 'a')
    """
    return "an" if words[0] in "aeiou" else "a"


class UsageRecord:
    """Counts the actions that each role asked for, allowed and denied ones apart."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: collections.Counter[tuple[str, str, str]] = collections.Counter()

    def note(self, principal_arn: str, action: str, allowed: bool) -> None:
        """Count one decision."""
        with self._lock:
            self._counts[role_of(principal_arn), action, "allowed" if allowed else "denied"] += 1

    def as_list(self) -> list[dict[str, Any]]:
        """Return the counts, sorted."""
        with self._lock:
            counted = sorted(self._counts.items())
        return [
            {"role": role, "action": action, "decision": what, "count": n}
            for (role, action, what), n in counted
        ]


def role_of(principal_arn: str) -> str:
    """Return the role behind a session, or the whole ARN of anything else.

    >>> role_of("arn:aws:sts::123456789012:assumed-role/trainer/i-1")
    'trainer'
    """
    head, found, rest = principal_arn.partition(":assumed-role/")
    return rest.split("/")[0] if found else head


class Authorizer:
    """Decides each call with the emulator's evaluator and the facts that policies refer to.

    :ivar authorizes_itself: says whether a service authorizes an action by itself.
    :ivar endpoint_denies: says whether a VPC endpoint's policy stops a call.
    :ivar denied_by_fault: returns the kind of policy with which a fault denies an action to a role,
        or None.
    """

    def __init__(self, region: str) -> None:
        self.region = region
        self.usage = UsageRecord()
        self.authorizes_itself: Callable[[str, str], bool] = lambda _service, _action: False
        self.endpoint_denies: Callable[[str, str, str, dict[str, Any]], bool] = (
            lambda _session, _action, _arn, _keys: False
        )
        self.denied_by_fault: Callable[[str, str], str | None] = lambda _role, _action: None
        self._enforce: Any = None

    def install(self) -> None:
        """Replace the emulator's evaluation by this one."""
        seams.replace(
            "core.iam_evaluator", "is_root_access_key", lambda _: lambda _access_key_id: False
        )
        seams.replace("core.iam_evaluator", "_first_match", with_variables)
        seams.replace("core.iam_evaluator", "_resolve_condition_key", with_role_arn)
        seams.replace("core.iam_actions", "s3_service_context", with_conditional_writes)
        seams.replace(
            "app", "pin_request_origin", lambda original: lambda ip, _secure: original(ip, True)
        )
        seams.replace("core.iam_evaluator", "enforce", self._keep_and_replace)
        seams.replace("core.iam_actions", "access_denied_response", with_kind_of_policy)

    def _keep_and_replace(self, original: Any) -> Any:
        """Keep the emulator's evaluation to call it, and return ours."""
        self._enforce = original
        return self.enforce

    def enforce(
        self,
        access_key: str,
        iam_action: str,
        service: str,
        region: str,
        resource_arn: str = "*",
        service_context: dict[str, Any] | None = None,
    ) -> Any:
        """Decide one call in the emulator's form.

        :return: None if the call is allowed, else an AuthError or an EvalResult.
        """
        resource_arn = PUBLIC_PARAMETER.sub(r"\1::parameter/aws/service/", resource_arn)
        if self.authorizes_itself(service, iam_action):
            return self._enforce(access_key, "sts:GetCallerIdentity", service, region)
        result = self._enforce(
            access_key,
            iam_action,
            service,
            region,
            resource_arn=resource_arn,
            service_context=service_context,
        )
        principal = self._principal_arn(access_key)
        if result is None and self._is_denied_elsewhere(
            principal, iam_action, resource_arn, service_context or {}
        ):
            result = seams.module("core.iam_evaluator").EvalResult("Deny", principal_arn=principal)
        self.usage.note(principal, iam_action, result is None)
        return result

    def _is_denied_elsewhere(
        self, principal: str, action: str, arn: str, keys: dict[str, Any]
    ) -> bool:
        """Say whether a fault or the policy of a VPC endpoint denies a call."""
        policy = self.denied_by_fault(role_of(principal), action)
        DENIED_BY.set(policy)
        return policy is not None or self.endpoint_denies(principal, action, arn, keys)

    def check(self, headers: Headers, action: str, arn: str, keys: dict[str, Any]) -> Denial | None:
        """Authorize one action on one resource for the caller of a request.

        The emulator has authenticated the request before.

        :return: None if the action is allowed.
        """
        access_key = seams.module("core.router").extract_access_key_id(headers)
        return self.check_key(access_key, action, arn, keys)

    def check_key(
        self, access_key: str, action: str, arn: str, keys: dict[str, Any]
    ) -> Denial | None:
        """Authorize one action on one resource for an access key; return None if it is allowed."""
        service = action.split(":")[0]
        result = self._enforce(
            access_key, action, service, self.region, resource_arn=arn, service_context=keys
        )
        principal = self._principal_arn(access_key)
        policy = None if result else self.denied_by_fault(role_of(principal), action)
        self.usage.note(principal, action, result is None and policy is None)
        if policy is not None:
            return Denial(principal, True, policy)
        if result is None:
            return None
        return Denial(principal, getattr(result, "decision", "") == "Deny")

    def check_role(
        self, role: Mapping[str, Any], account_id: str, action: str, arn: str, keys: dict[str, Any]
    ) -> Denial | None:
        """Authorize an action that AWS performs with a role's own permissions.

        An example is the service role of CloudFormation.

        :return: None if the action is allowed.
        """
        evaluator = seams.module("core.iam_evaluator")
        name = role["RoleName"]
        principal = f"arn:aws:sts::{account_id}:assumed-role/{name}/AWSCloudFormation"
        context = evaluator.EvalContext(
            principal_arn=principal,
            principal_type="AssumedRole",
            principal_account=account_id,
            action=action,
            resource_arn=arn,
            region=self.region,
            service_context={k.lower(): v for k, v in keys.items()},
        )
        limits = evaluator._permissions_boundary(
            seams.module("services.iam")._roles, name, account_id
        )
        result = evaluator.evaluate(
            context, evaluator._gather_role_policies(name, account_id), *limits
        )
        policy = self.denied_by_fault(name, action) if result.decision == "Allow" else None
        allowed = result.decision == "Allow" and policy is None
        self.usage.note(principal, action, allowed)
        if policy is not None:
            return Denial(principal, True, policy)
        return None if allowed else Denial(principal, result.decision == "Deny")

    def _principal_arn(self, access_key: str) -> str:
        """Return the ARN of a caller, or "unknown"."""
        identity = seams.module("core.iam_evaluator").resolve_caller_identity(access_key or "")
        return str(identity["userArn"]) if identity else "unknown"


def with_kind_of_policy(original: Any) -> Any:
    """Name the kind of policy with which a fault has denied a call, in the service's message."""

    def response(*given: Any, **named: Any) -> Any:
        status, headers, body = original(*given, **named)
        policy = DENIED_BY.get()
        if policy is None or not isinstance(body, bytes):
            return status, headers, body
        usual = f"an {IDENTITY_POLICY}".encode()
        return status, headers, body.replace(usual, f"{article(policy)} {policy}".encode())

    return response


def with_variables(original: Any) -> Any:
    """Substitute the policy variables of a statement before it is matched.

    A statement with a variable that has no value does not match, as on AWS:
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html
    """

    def first_match(context: Any, statements: list[Any], effect: str) -> Any:
        return original(
            context,
            [s for statement in statements if (s := _substituted(statement, context))],
            effect,
        )

    return first_match


def _substituted(statement: Any, context: Any) -> Any | None:
    """Return a statement without variables, or None if a variable has no value."""
    if "${" not in repr((statement.resources, statement.not_resources, statement.conditions)):
        return statement
    try:
        return dataclasses.replace(
            statement,
            resources=[substitute(r, context) for r in statement.resources],
            not_resources=[substitute(r, context) for r in statement.not_resources],
            conditions=_substitute_conditions(statement.conditions, context),
        )
    except KeyError:
        return None


def _substitute_conditions(conditions: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Substitute the variables in every value of every condition."""

    def value(given: Any) -> Any:
        if isinstance(given, list):
            return [value(item) for item in given]
        return substitute(given, context) if isinstance(given, str) else given

    return {
        operator: {key: value(given) for key, given in block.items()}
        for operator, block in conditions.items()
    }


def substitute(text: str, context: Any) -> str:
    """Replace each `${key}` by the key's value in the request.

    `${key, 'default'}` gives the default if the key has no value.

    :raises KeyError: if a key has neither a value nor a default.
    """

    def value(match: re.Match[str]) -> str:
        name, _, default = (part.strip() for part in match.group(1).partition(","))
        if name in LITERALS:
            return LITERALS[name]
        found = seams.module("core.iam_evaluator")._resolve_condition_key(name, context)
        if found is None or isinstance(found, list):
            if not default:
                raise KeyError(name)
            return default.strip("'")
        return str(found)

    return VARIABLE.sub(value, text)


def with_role_arn(original: Any) -> Any:
    """Make `aws:PrincipalArn` of a role's session the ARN of the role, including its path.

    Source:
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html#condition-keys-principalarn
    """

    def resolve(key: str, context: Any) -> Any:
        name = role_of(context.principal_arn)
        if key.lower() != "aws:principalarn" or name == context.principal_arn:
            return original(key, context)
        role = seams.module("services.iam")._roles.get_scoped(context.principal_account, None, name)
        return role["Arn"] if role else f"arn:aws:iam::{context.principal_account}:role/{name}"

    return resolve


#: Headers of a write that are condition keys, too.
STORAGE_HEADERS = (
    "x-amz-storage-class",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-customer-algorithm",
)


def with_conditional_writes(original: Any) -> Any:
    """Add the condition keys of conditional writes, and of how an object is kept.

    Sources: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html,
    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html
    """

    def context(
        iam_action: str,
        query: dict[str, Any] | None,
        path: str = "",
        headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        found: dict[str, Any] = original(iam_action, query, path, headers)
        sent = headers or {}
        for header in ("if-match", "if-none-match"):
            if sent.get(header) and iam_action in ("s3:PutObject", "s3:DeleteObject"):
                found[f"s3:{header}"] = sent[header]
        if iam_action == "s3:PutObject":
            found |= {f"s3:{name}": sent[name] for name in STORAGE_HEADERS if sent.get(name)}
            parts = query or {}
            found["s3:ObjectCreationOperation"] = str(
                "uploads" not in parts and "partNumber" not in parts
            ).lower()
        return found

    return context
