"""Explain why AWS denied a call of EC2: decode its message, and replay it through our policies."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from infra_bootstrap.clients import Clients, code_of, is_refusal, role_of_arn
from infra_bootstrap.commands.airflow_policy import resolved_identity
from infra_bootstrap.stacks.concerns import Concern, stack_name
from infra_bootstrap.stacks.deployed import find_stack
from infra_bootstrap.stacks.policy_replay import replay
from infra_bootstrap.stacks.settings import DeploymentSettings
from infra_bootstrap.stacks.template_files import parameters_of

ENCODED = re.compile(r"\s*Encoded authorization failure message: ([\w.+/=-]+)")
AS_OPTION = re.compile(r"--encoded-message [\w.+/=-]{20,}")


class DecodedDenial(NamedTuple):
    """One denied call, as AWS decoded it.

    :param context: the values of the condition keys, by key.
    :param explicit: whether a policy denies the call. Otherwise no policy allows it.
    """

    principal: str
    action: str
    resource: str
    context: dict[str, list[str]]
    explicit: bool


def shorten(text: str) -> str:
    """Remove the encoded message, which says nothing to a person.

    >>> shorten("not authorized. Encoded authorization failure message: abc-1 (again)")
    'not authorized. (again)'
    """
    return AS_OPTION.sub("--encoded-message MESSAGE", ENCODED.sub("", text))


def explain(callers: Sequence[Clients], settings: DeploymentSettings, text: str) -> list[str]:
    """Explain each encoded message in a text, such as the answer of a launch.

    :param callers: the clients to decode with. The first that may `sts:DecodeAuthorizationMessage`
        is used.
    :return: the explanations, each once. They are empty if the text has no encoded message.
    """
    explanations = []
    for encoded in dict.fromkeys(ENCODED.findall(text)):
        decoded = _decode(callers, encoded)
        if decoded is None:
            explanations.append(
                "the reason cannot be decoded: let an administrator run "
                f"`aws sts decode-authorization-message --encoded-message {encoded}`"
            )
            continue
        denial = read(decoded)
        why = _why(callers[-1], settings, denial)
        explanations.append(f"{denial.action} on {denial.resource}: {why}")
    return list(dict.fromkeys(explanations))


def _decode(callers: Sequence[Clients], encoded: str) -> str | None:
    """Let STS decode a message. :return: None if no caller may do that."""
    for clients in callers:
        try:
            return clients.sts.decode_authorization_message(EncodedMessage=encoded)[
                "DecodedMessage"
            ]
        except ClientError as error:
            if not is_refusal(error) and code_of(error) != "InvalidAuthorizationMessageException":
                raise
    return None


def read(decoded: str) -> DecodedDenial:
    """Read a decoded message.

    Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_DecodeAuthorizationMessage.html
    and the example in https://repost.aws/knowledge-center/ec2-not-auth-launch
    """
    found = json.loads(decoded)
    context = found["context"]
    return DecodedDenial(
        principal=str(context["principal"].get("arn", "")),
        action=str(context["action"]),
        resource=str(context["resource"]),
        context={
            str(item["key"]): [str(value["value"]) for value in item["values"]["items"]]
            for item in context["conditions"]["items"]
        },
        explicit=bool(found["explicitDeny"]),
    )


def _why(clients: Clients, settings: DeploymentSettings, denial: DecodedDenial) -> str:
    """Name what in our policies does not allow a call, or who else denies it."""
    if denial.explicit:
        return (
            "a policy denies it. Ours deny nothing that a launch needs, so look at the policies of "
            "your organisation and of the role"
        )
    role = role_of_arn(denial.principal)
    policies = dict(_policies_of(clients, settings, role)) if role else {}
    if not policies:
        return f"{denial.principal} is no role of this environment, so our policies say nothing"
    for name, statements in policies.items():
        if failed := replay(statements, denial.action, denial.resource, denial.context):
            return f"{name} does not allow it ({' | '.join(failed)})"
    return (
        "our policies allow it, so look at what was changed by hand (`drift`), and at the policies "
        "of your organisation"
    )


def _policies_of(
    clients: Clients, settings: DeploymentSettings, role: str
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Read the statements of a role's own policies and of its boundary in the identity template."""
    deployed = find_stack(clients, stack_name(settings.environment, Concern.IDENTITY))
    values = {
        name: str(declared["Default"])
        for name, declared in parameters_of(Concern.IDENTITY).items()
        if "Default" in declared
    } | {"Environment": settings.environment, **settings.parameters}
    values |= dict(deployed.parameters) if deployed else {}
    stage = resolved_identity(clients, settings, values)
    for logical_id, resource in stage.resources.items():
        if resource["Type"] != "AWS::IAM::Role" or stage.physical[logical_id] != role:
            continue
        properties = stage.properties(logical_id)
        yield (
            f"the policy of {role}",
            [
                statement
                for policy in properties["Policies"]
                for statement in policy["PolicyDocument"]["Statement"]
            ],
        )
        boundary = resource["Properties"]["PermissionsBoundary"]["Ref"]
        document = stage.properties(boundary)["PolicyDocument"]
        yield f"the boundary {stage.physical[boundary]}", document["Statement"]
