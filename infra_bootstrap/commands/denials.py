"""Explain why AWS denied a call of EC2: decode its message, and replay it through our policies."""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from infra_bootstrap.clients import Clients, code_of, role_of_arn
from infra_bootstrap.commands.airflow_policy import resolved_identity
from infra_bootstrap.stacks.concerns import Concern, stack_name
from infra_bootstrap.stacks.deployed import find_stack
from infra_bootstrap.stacks.policy_replay import replay
from infra_bootstrap.stacks.settings import DeploymentSettings
from infra_bootstrap.stacks.template_files import parameters_of

ENCODED = re.compile(r"\s*Encoded authorization failure message: ([\w.+/=-]+)")


class Denial(NamedTuple):
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
    return ENCODED.sub("", text)


def explain(clients: Clients, settings: DeploymentSettings, text: str) -> list[str]:
    """Explain each encoded message in a text, such as the answer of a launch.

    :param clients: of a caller who may `sts:DecodeAuthorizationMessage`.
    :return: one explanation for each message. It is empty if the text has none.
    """
    explanations = []
    for encoded in dict.fromkeys(ENCODED.findall(text)):
        try:
            answer = clients.sts.decode_authorization_message(EncodedMessage=encoded)
        except ClientError as error:
            explanations.append(
                f"the reason cannot be decoded ({code_of(error)}): let an administrator run "
                f"`aws sts decode-authorization-message --encoded-message {encoded}`"
            )
            continue
        denial = read(answer["DecodedMessage"])
        explanations.append(
            f"{denial.action} on {denial.resource}: {_why(clients, settings, denial)}"
        )
    return explanations


def read(decoded: str) -> Denial:
    """Read a decoded message.

    Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_DecodeAuthorizationMessage.html
    and the example in https://repost.aws/knowledge-center/ec2-not-auth-launch
    """
    found = json.loads(decoded)
    context = found["context"]
    return Denial(
        principal=str(context["principal"].get("arn", "")),
        action=str(context["action"]),
        resource=str(context["resource"]),
        context={
            str(item["key"]): [str(value["value"]) for value in item["values"]["items"]]
            for item in context["conditions"]["items"]
        },
        explicit=bool(found["explicitDeny"]),
    )


def _why(clients: Clients, settings: DeploymentSettings, denial: Denial) -> str:
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
