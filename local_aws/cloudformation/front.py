"""Checks in front of the emulator's CloudFormation: service roles, conditions and references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from local_aws.cloudformation.provisioning import OPERATOR, Operator
from local_aws.cloudformation.references import unresolved
from local_aws.emulator import seams
from local_aws.emulator.wire import read_form, request_id
from local_aws.iam.authorization import Authorizer
from local_aws.iam.sessions import Issuer, RoleMissingError

SERVICE = "cloudformation.amazonaws.com"
OPERATIONS = (
    "CreateStack",
    "UpdateStack",
    "DeleteStack",
    "CreateChangeSet",
    "ExecuteChangeSet",
    "ContinueUpdateRollback",
    "RollbackStack",
)
ROLE = "_service_role_arn"
"""The key of a stack's record for the role that was given last. CloudFormation uses it again."""
Response = tuple[int, dict[str, str], bytes]


class CloudFormationFront:
    """The handler in front of the emulator's CloudFormation."""

    def __init__(self, inner: Any, authorizer: Authorizer, issuer: Issuer) -> None:
        self._inner = inner
        self._authorizer = authorizer
        self._issuer = issuer

    async def __call__(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        query: Mapping[str, Any],
    ) -> Response:
        """Serve one request. The stack operation acts with the role that the request names."""
        form = read_form(body)
        given = form.get("RoleARN")
        if form.get("Action") not in OPERATIONS:
            answer: Response = await self._inner(method, path, headers, body, query)
            return answer
        if refused := refuse_references(form.get("TemplateBody")):
            return refused
        if given and (refused := self._refuse_role(headers, given)):
            return refused
        role = given or remembered_role(form)
        OPERATOR.set(Operator(role, seams.module("core.router").extract_access_key_id(headers)))
        answer = await self._inner(method, path, headers, body, query)
        if answer[0] < 300 and role:
            remember_role(form, role)
        return answer

    def _refuse_role(self, headers: Mapping[str, str], role_arn: str) -> Response | None:
        """Refuse a role that the caller may not pass, or that CloudFormation cannot assume."""
        denial = self._authorizer.check(
            headers, "iam:PassRole", role_arn, {"iam:PassedToService": SERVICE}
        )
        if denial:
            text = (
                f"User: {denial.principal_arn} is not authorized to perform: iam:PassRole on "
                f"resource: {role_arn} "
                "because no identity-based policy allows the iam:PassRole action"
            )
            return error(403, "AccessDenied", text)
        try:
            trusted = self._issuer.trusts(
                self._issuer.get_role(role_arn.rsplit("/", 1)[-1]), SERVICE, {}
            )
        except RoleMissingError:
            trusted = False
        return (
            None
            if trusted
            else error(400, "ValidationError", f"Role {role_arn} is invalid or cannot be assumed")
        )


def refuse_references(body: str | None) -> Response | None:
    """Refuse a template that refers to names that it does not define.

    A template that cannot be parsed is left to the emulator.
    """
    if not body:
        return None
    try:
        template = seams.module("services.cloudformation.engine")._parse_template(body)
    except Exception:  # the parser raises many types; the emulator reports the error itself
        return None
    names = unresolved(template)
    if not names:
        return None
    return error(
        400,
        "ValidationError",
        f"Template format error: Unresolved resource dependencies [{', '.join(names)}] in the "
        "Resources block of the template",
    )


def _records(form: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the records of the change set and the stack that a request names, in this order."""
    service = seams.module("services.cloudformation")
    stack_name = form.get("StackName", "").split(":stack/")[-1].split("/")[0]
    change_set = form.get("ChangeSetName", "")
    found = [
        c
        for c in service._change_sets.values()
        if change_set and change_set in (c.get("ChangeSetName"), c.get("ChangeSetId"))
    ]
    if not stack_name and found:
        stack_name = str(found[0].get("StackName", ""))
    found = [c for c in found if c.get("StackName") == stack_name]
    stack = service._stacks.get(stack_name)
    return [*found, *([stack] if stack else [])]


def remembered_role(form: Mapping[str, str]) -> str | None:
    """Return the role that an earlier request gave for this change set or stack."""
    return next((str(record[ROLE]) for record in _records(form) if record.get(ROLE)), None)


def remember_role(form: Mapping[str, str], role_arn: str) -> None:
    """Remember the role for later requests of a stack.

    The role of a change set becomes the stack's role when the change set is executed.
    """
    records = _records(form)
    for record in records[:1] if form.get("Action") == "CreateChangeSet" else records:
        record[ROLE] = role_arn


def with_request_keys(original: Any) -> Any:
    """Add CloudFormation's condition keys to the keys of a request.

    Source:
    https://docs.aws.amazon.com/service-authorization/latest/reference/list_awscloudformation.html
    """
    names = {
        "RoleARN": "cloudformation:RoleArn",
        "ChangeSetName": "cloudformation:ChangeSetName",
        "TemplateURL": "cloudformation:TemplateUrl",
    }

    def context(
        service: str, iam_action: str, body: bytes, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        found: dict[str, Any] = original(service, iam_action, body, params)
        if service == "cloudformation":
            for parameter, key in names.items():
                value = params.get(parameter)
                if value:
                    found[key] = value[-1] if isinstance(value, list) else value
        return found

    return context


def error(status: int, code: str, message: str) -> Response:
    """Return an error in CloudFormation's form."""
    body = (
        "<ErrorResponse "
        'xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{escape(message)}</Message></Error><RequestId>{request_id()}</RequestId></ErrorResponse>"
    )
    return status, {"Content-Type": "text/xml"}, body.encode()
