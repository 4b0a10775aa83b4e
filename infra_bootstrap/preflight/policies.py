"""Checks of the policies that limit the account: of its organisation, and of Airflow's role."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote

from botocore.exceptions import ClientError

from infra_bootstrap.clients import Clients, code_of, is_refusal, message_of
from infra_bootstrap.preflight.results import Check, CheckResult, Situation
from infra_bootstrap.stacks.concerns import bucket_name, role_name

if TYPE_CHECKING:
    from mypy_boto3_iam.type_defs import ContextEntryTypeDef

#: How a service says that a policy of the organisation denied a call.
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
ORGANISATION = ("service control policy", "resource control policy")
#: What the stacks and the launcher do, as IAM's simulation knows it. Whether the caller may do it
#: does not matter here, because roles of the stacks do it. What the organisation denies, it denies
#: to them, too.
ACTIONS_OF_ROLES = (
    "cloudformation:CreateChangeSet",
    "ec2:CreateFleet",
    "ec2:CreateLaunchTemplate",
    "ec2:CreateVpc",
    "ec2:RunInstances",
    "iam:CreateRole",
    "lambda:CreateFunction",
    "s3:CreateBucket",
    "sqs:CreateQueue",
)
#: IAM simulates without the conditions that it is not told of, such as who the caller is.
ONLY_SIMULATED = (
    "Only IAM's simulation says so; if the policy makes an exception for you, use --unchecked"
)


def context_of(clients: Clients) -> "list[ContextEntryTypeDef]":
    """Return the values of the condition keys that organisations limit most often.

    A key without a value makes a condition such as `StringNotEquals` true, so a policy that allows
    this region would seem to deny everything.
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
    """
    strings = {"aws:RequestedRegion": clients.region, "ec2:MetadataHttpTokens": "required"}
    return [
        *(_entry(key, value, "string") for key, value in strings.items()),
        *(_entry(key, "true", "boolean") for key in ("aws:SecureTransport", "ec2:Encrypted")),
    ]


def _entry(key: str, value: str, kind: Literal["string", "boolean"]) -> "ContextEntryTypeDef":
    return {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": kind}


def denied_by_organisation(error: ClientError) -> bool:
    """Tell whether a policy of the organisation denied a call."""
    return is_refusal(error) and any(words in message_of(error) for words in ORGANISATION)


def organisation_fix(region: str) -> str:
    """Say what to do about a policy of the organisation."""
    return (
        f"a service control policy of your organisation denies it in {region}: choose a region or "
        "an account that it allows, or ask the organisation's administrator"
    )


def check_organisation(at: Situation) -> Iterator[Check]:
    """Check that no service control policy denies what the stacks need.

    Two calls of EC2 are made as dry runs, which change nothing. IAM's simulation evaluates the
    policies of the organisation with their conditions, for the values of :func:`context_of`. It
    does not know other values, so a person may pass over what it alone says.
    Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulateCustomPolicy.html
    """
    clients = at.clients
    real, simulated = [*_denied_dry_runs(clients)], [*_denied_in_simulation(clients)]
    denied = list(dict.fromkeys([*real, *simulated]))
    exception = "" if real or not simulated else f". {ONLY_SIMULATED}"
    yield Check(
        name="service control policies",
        verdict=CheckResult.FAILED if denied else CheckResult.GOOD,
        found=f"deny {', '.join(denied)}" if denied else "deny nothing that we need",
        fix=organisation_fix(clients.region) + exception if denied else "",
    )


def _denied_dry_runs(clients: Clients) -> Iterator[str]:
    calls: dict[str, Any] = {
        "ec2:CreateVpc": lambda: clients.ec2.create_vpc(CidrBlock="10.64.0.0/16", DryRun=True),
        "ec2:CreateLaunchTemplate": lambda: clients.ec2.create_launch_template(
            LaunchTemplateName="nightshift-preflight",
            LaunchTemplateData={"InstanceType": "c7i.large"},
            DryRun=True,
        ),
    }
    for action, call in calls.items():
        try:
            call()
        except ClientError as error:
            if denied_by_organisation(error):
                yield action
            elif not is_refusal(error) and code_of(error) != "DryRunOperation":
                raise


def _denied_in_simulation(clients: Clients) -> Iterator[str]:
    try:
        answers = clients.iam.simulate_custom_policy(
            PolicyInputList=[allow_all()],
            ActionNames=list(ACTIONS_OF_ROLES),
            ContextEntries=context_of(clients),
        )["EvaluationResults"]
    except ClientError as error:
        if not is_refusal(error):
            raise
        return  # the check of the permissions says that the simulation is not allowed
    for answer in answers:
        if answer.get("OrganizationsDecisionDetail", {}).get("AllowedByOrganizations") is False:
            yield answer["EvalActionName"]


def allow_all() -> str:
    """Return a policy that allows everything, to see what others deny."""
    statement = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def check_boundary(clients: Clients, environment: str, role: Any) -> Check | None:
    """Check the permissions boundary of Airflow's role, which limits what a policy can give it.

    :param role: the role as GetRole describes it.
    :return: None if the boundary lets everything pass that Airflow needs, or if there is none.
    """
    boundary = role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")
    if boundary is None:
        return None
    version = clients.iam.get_policy(PolicyArn=boundary)["Policy"]["DefaultVersionId"]
    document: Any = clients.iam.get_policy_version(PolicyArn=boundary, VersionId=version)[
        "PolicyVersion"
    ]["Document"]
    text = json.dumps(document) if isinstance(document, dict) else unquote(str(document))
    denied = [
        action
        for resource, actions in _needed_by_airflow(clients, environment).items()
        for action in _not_allowed(clients, text, actions, resource)
    ]
    if not denied:
        return None
    return Check(
        name="Airflow's role",
        verdict=CheckResult.FAILED,
        found=f"the permissions boundary {boundary} of {role['RoleName']} does not allow "
        f"{', '.join(denied)}",
        fix="let the boundary allow what `airflow-policy` prints, or choose a role without this "
        "boundary: --airflow-role NAME",
    )


def _needed_by_airflow(clients: Clients, environment: str) -> dict[str, tuple[str, ...]]:
    """List what an Airflow worker cannot do without, by resource."""
    at = f"{clients.region}:{clients.account_id}"
    function = f"arn:{clients.partition}:lambda:{at}:function:nightshift-{environment}-evaluator"
    bucket = bucket_name(environment, clients.account_id, clients.region)
    stack = f"arn:{clients.partition}:cloudformation:{at}:stack/nightshift-{environment}-network/x"
    return {
        clients.role_arn(role_name(environment, "launcher")): ("sts:AssumeRole",),
        f"{function}:live": ("lambda:InvokeFunction",),
        f"arn:{clients.partition}:s3:::{bucket}/specs/x": ("s3:GetObject",),
        stack: ("cloudformation:DescribeStacks",),
    }


def _not_allowed(
    clients: Clients, policy: str, actions: tuple[str, ...], resource: str
) -> Iterator[str]:
    """Yield the actions that one policy does not allow. IAM evaluates it."""
    answers = clients.iam.simulate_custom_policy(
        PolicyInputList=[policy],
        ActionNames=list(actions),
        ResourceArns=[resource],
        ContextEntries=context_of(clients),
    )["EvaluationResults"]
    yield from (
        answer["EvalActionName"] for answer in answers if answer["EvalDecision"] != "allowed"
    )
