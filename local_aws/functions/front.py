"""Checks in front of the emulator's Lambda: PassRole, available runtimes and payload limits."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from local_aws.emulator import seams
from local_aws.functions.runner import NESTED, SERVICE, TENANT, Runner
from local_aws.functions.runtimes import Runtimes
from local_aws.iam.authorization import Authorizer

SYNC_LIMIT = 6 * 1024 * 1024
ASYNC_LIMIT = 1024 * 1024
"""Bytes: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""
CONFIGURES = re.compile(r"^/2015-03-31/functions(/[^/]+/configuration)?/?$")
TENANT_ID = re.compile(r"[a-zA-Z0-9\._:\/=+\-@ ]{1,256}")
"""https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html"""
INVOKES = re.compile(r"^/2015-03-31/functions/[^/]+/invocations/?$")
WRONG_CODE = re.compile(
    rb',\s*"(?:(?:State|LastUpdateStatus)Reason(?:Code)?":\s*""|StateReasonCode":\s*"Updating")'
)
"""Empty reasons, which AWS leaves out, and a code that AWS does not have."""
Response = tuple[int, dict[str, str], bytes]


class LambdaFront:
    """The handler in front of the emulator's Lambda."""

    def __init__(
        self, inner: Any, authorizer: Authorizer, runtimes: Runtimes, runner: Runner
    ) -> None:
        self._inner = inner
        self._authorizer = authorizer
        self._runtimes = runtimes
        self._runner = runner

    async def __call__(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        query: Mapping[str, Any],
    ) -> Response:
        """Serve one request."""
        if method in ("POST", "PUT") and CONFIGURES.match(path):
            refused = self._refuse_configuration(headers, json.loads(body or b"{}"))
            if refused:
                return refused
        if method == "POST" and INVOKES.match(path):
            tenant = headers.get("x-amz-tenant-id")
            refused = refuse_payload(headers, body) or refuse_tenant(path, query, tenant)
            if refused:
                return refused
            TENANT.set(tenant)
            NESTED.set(
                seams.module("core.router").extract_access_key_id(headers) in self._runner.keys
            )
        answer: Response = await self._inner(method, path, headers, body, query)
        return answer if INVOKES.match(path) else without_wrong_codes(answer)

    def _refuse_configuration(
        self, headers: Mapping[str, str], data: Mapping[str, Any]
    ) -> Response | None:
        """Refuse a function configuration that AWS or this machine cannot accept.

        The caller must be allowed to pass the role, Lambda must be able to assume it, and the
        runtime must be available.
        """
        role = data.get("Role")
        if role:
            denial = self._authorizer.check(
                headers, "iam:PassRole", role, {"iam:PassedToService": SERVICE}
            )
            if denial:
                text = (
                    f"User: {denial.principal_arn} is not authorized to perform: iam:PassRole on "
                    f"resource: {role} because "
                    "no identity-based policy allows the iam:PassRole action"
                )
                return error(403, "AccessDeniedException", text)
        try:
            check_function(data, self._runtimes, self._runner)
        except ValueError as problem:
            return error(400, "InvalidParameterValueException", str(problem))
        return None


def without_wrong_codes(answer: Response) -> Response:
    """Leave out the reason codes of a configuration that AWS would not send."""
    status, headers, body = answer
    raw = body.encode() if isinstance(body, str) else body
    return status, headers, WRONG_CODE.sub(b"", raw) if isinstance(raw, bytes) else raw


def check_function(properties: Mapping[str, Any], runtimes: Runtimes, runner: Runner) -> None:
    """Check that this machine has a function's runtime, and that Lambda can assume its role.

    :raises ValueError: naming the available runtimes, or saying that the role cannot be assumed.
    """
    runtime = properties.get("Runtime")
    if runtime and runtimes.interpreter(str(runtime)) is None:
        here = ", ".join(runtimes.available()) or "none"
        raise ValueError(
            f"The runtime parameter of {runtime} is not available: this machine can run {here} (a "
            "local AWS needs "
            "the interpreter on PATH)."
        )
    role = properties.get("Role")
    if role and not runner.can_assume(str(role)):
        raise ValueError("The role defined for the function cannot be assumed by Lambda.")


def refuse_payload(headers: Mapping[str, str], body: bytes) -> Response | None:
    """Refuse an event that is too large or is not JSON."""
    limit = ASYNC_LIMIT if headers.get("x-amz-invocation-type") == "Event" else SYNC_LIMIT
    if len(body) > limit:
        return error(
            413,
            "RequestTooLargeException",
            f"{len(body)} byte payload is too large for the "
            f"{'Event' if limit == ASYNC_LIMIT else 'RequestResponse'} "
            f"invocation type (limit {limit} bytes)",
        )
    try:
        json.loads(body or b"null")
    except ValueError as problem:
        return error(
            400,
            "InvalidRequestContentException",
            f"Could not parse request body into json: Could not parse payload into json: {problem}",
        )
    return None


def refuse_tenant(path: str, query: Mapping[str, Any], tenant: str | None) -> Response | None:
    """Refuse a call without a tenant to a function that isolates tenants, and the reverse.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/tenant-isolation-troubleshooting.html
    """
    service = seams.module("services.lambda_svc")
    name = unquote(path.split("/functions/")[1].split("/")[0])
    qualifier = query.get("Qualifier")
    qualifier = qualifier[0] if isinstance(qualifier, list) else qualifier
    record, config, _ = service._get_func_record_for_ref(
        f"{name}:{qualifier}" if qualifier else name
    )
    if not record or not config:
        return None
    if tenant is not None and not TENANT_ID.fullmatch(tenant):
        return error(
            400,
            "ValidationException",
            f"1 validation error detected: Value '{tenant}' at 'tenantId' failed to satisfy "
            f"constraint: Member must satisfy regular expression pattern: {TENANT_ID.pattern}",
        )
    isolates = bool(config.get("TenancyConfig") or record.get("config", {}).get("TenancyConfig"))
    if isolates == (tenant is not None):
        return None
    text = (
        "Add a valid tenant ID in your request: the invoked function is enabled with tenancy "
        "configuration."
        if isolates
        else "Remove the tenant ID from your request: the invoked function is not enabled with "
        "tenancy configuration."
    )
    return error(400, "InvalidParameterValueException", text)


def error(status: int, code: str, message: str) -> Response:
    """Return an error in the form of Lambda's REST API."""
    headers = {"Content-Type": "application/json", "x-amzn-errortype": code}
    return (
        status,
        headers,
        json.dumps({"Type": "User", "message": message, "Message": message}).encode(),
    )
