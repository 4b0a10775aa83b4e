"""Checks of the account: the caller, the region, permissions, quotas, Lambda and Spot."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from infra_bootstrap.clients import Clients, code_of, role_of_arn
from infra_bootstrap.errors import BadInputError
from infra_bootstrap.preflight.policies import context_of
from infra_bootstrap.preflight.quotas import find_quota
from infra_bootstrap.preflight.results import Check, CheckResult, Situation
from infra_bootstrap.stacks.concerns import Concern, stack_name
from infra_bootstrap.stacks.deployed import find_stack
from infra_bootstrap.stacks.parameters import lambda_runtime
from infra_bootstrap.stacks.settings import LAPTOP_RUNTIMES, DeploymentSettings
from rl_lifecycle.machines.instance_types import INSTANCE_TYPES
from rl_lifecycle.machines.quotas import QUOTA_CODES


def _vcpu_quotas() -> Iterator[tuple[str, str, int, bool]]:
    """Yield each vCPU quota that the instance types marked `preflight` count against.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-quotas.html

    :return: four values for each quota: its name (family and market), its code in Service Quotas,
        the number of vCPUs of the smallest machine, and whether training with
        `instance_types: auto` needs the quota.
    """
    wanted = [row for row in INSTANCE_TYPES.values() if row.preflight]
    for family, codes in QUOTA_CODES.items():
        rows = [row for row in wanted if row.quota == family]
        if rows:
            name = f"{family} (GPU)" if any(row.gpu for row in rows) else family
            fewest, needed = min(row.vcpus for row in rows), any(row.auto for row in rows)
            for market, code in codes.items():
                yield f"{name}, {market}", code, fewest, needed


#: The vCPU quotas that are checked.
VCPU_QUOTAS = tuple(_vcpu_quotas())
#: The role of the Spot service. It belongs to AWS. Our stacks may be deleted, so none of them makes
#: this role. EC2 Fleet's role is not made, because an instant fleet does not need it. A standing
#: fleet could use that role to launch machines that the launcher's conditions forbid.
#: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-fleet-prerequisites.html
SERVICE_ROLES = {"spot.amazonaws.com": "AWSServiceRoleForEC2Spot"}
#: What an administrator must be allowed to do in a first deployment, because identity is made
#: with the caller's own permissions. The key is the resource of the actions. Without a resource
#: IAM would simulate them for all resources, which scoped permissions do not allow.
ADMINISTRATOR_ACTIONS = {
    "arn:{partition}:cloudformation:{region}:{account}:stack/nightshift-{environment}-identity/*": (
        "cloudformation:CreateChangeSet",
        "cloudformation:DeleteChangeSet",
        "cloudformation:DeleteStack",
        "cloudformation:DescribeChangeSet",
        "cloudformation:DescribeStackEvents",
        "cloudformation:DescribeStacks",
        "cloudformation:ExecuteChangeSet",
        "cloudformation:GetTemplate",
        "cloudformation:UpdateTerminationProtection",
    ),
    "arn:{partition}:iam::{account}:role/nightshift-{environment}-deployer": (
        "iam:CreateRole",
        "iam:DeleteRolePolicy",
        "iam:GetRole",
        "iam:PassRole",
        "iam:PutRolePermissionsBoundary",
        "iam:PutRolePolicy",
        "iam:TagRole",
        "iam:UpdateAssumeRolePolicy",
        "sts:AssumeRole",
    ),
    "arn:{partition}:iam::{account}:role/{airflow_role}": (
        "iam:AttachRolePolicy",
        "iam:DetachRolePolicy",
    ),
    "arn:{partition}:iam::{account}:policy/nightshift-{environment}-boundary": (
        "iam:CreatePolicy",
        "iam:CreatePolicyVersion",
        "iam:DeletePolicyVersion",
    ),
    "arn:{partition}:iam::{account}:instance-profile/nightshift-{environment}-trainer": (
        "iam:AddRoleToInstanceProfile",
        "iam:CreateInstanceProfile",
    ),
    (
        "arn:{partition}:iam::{account}:role/aws-service-role/spot.amazonaws.com/"
        "AWSServiceRoleForEC2Spot"
    ): ("iam:CreateServiceLinkedRole",),
    "*": (
        "ec2:DescribeAvailabilityZones",
        "ec2:DescribeImages",
        "ec2:DescribeInstanceTypeOfferings",
        "ec2:DescribeManagedPrefixLists",
        "ssm:GetParameter",
    ),
}


def is_on_this_machine(clients: Clients) -> bool:
    """Tell whether the endpoint is on this machine, so that Lambda's Python is this machine's."""
    return urlsplit(clients.sts.meta.endpoint_url).hostname in ("127.0.0.1", "localhost", "::1")


def check_runtime(clients: Clients, runtime: str) -> None:
    """Refuse a Lambda runtime that cannot load the layer on AWS.

    :raises BadInputError: with what to choose instead.
    """
    if runtime in LAPTOP_RUNTIMES and not is_on_this_machine(clients):
        raise BadInputError(
            f"--lambda-runtime {runtime}: onnxruntime's wheels need glibc 2.28, and Lambda's "
            f"{runtime} has 2.26; choose python3.12 or later"
        )


def check_caller(at: Situation) -> Iterator[Check]:
    """Check that the caller is not root, which cannot assume the role that uploads artifacts."""
    clients = at.clients
    arn = clients.identity["Arn"]
    if arn.endswith(":root"):
        yield Check(
            name="who am I",
            verdict=CheckResult.FAILED,
            found=arn,
            fix="use a role or a user: root cannot assume roles",
        )
        return
    yield Check(name="who am I", verdict=CheckResult.GOOD, found=arn)
    yield Check(
        name="account and region",
        verdict=CheckResult.GOOD,
        found=f"{clients.account_id}, {clients.region}",
    )


def check_permissions(at: Situation) -> Iterator[Check]:
    """Ask IAM whether the caller has an administrator's permissions.

    IAM's simulation leaves out conditions. Another check looks at the policies of organisations.
    """
    clients, settings = at
    role = role_of_arn(clients.identity["Arn"])
    source = clients.iam.get_role(RoleName=role)["Role"]["Arn"] if role else clients.identity["Arn"]
    refused = _simulate(clients, settings, source)
    identity = find_stack(clients, stack_name(settings.environment, Concern.IDENTITY))
    airflow = (
        identity.parameters.get("AirflowRoleName")
        if identity is not None and not identity.is_dead
        else None
    )
    if not refused:
        yield Check(name="permissions", verdict=CheckResult.GOOD, found="an administrator's")
    elif airflow is not None and role == airflow:
        yield Check(
            name="permissions", verdict=CheckResult.GOOD, found="Airflow's: everything but identity"
        )
    else:
        fix = (
            f"deploy as {airflow}, or let an administrator do it"
            if airflow
            else "let an administrator deploy the first time, because that makes the roles"
        )
        yield Check(
            name="permissions",
            verdict=CheckResult.FAILED,
            found=f"{source} may not {', '.join(refused)}",
            fix=fix,
        )


def _simulate(clients: Clients, settings: DeploymentSettings, source: str) -> list[str]:
    """List the actions of a first deployment that a role or user may not perform.

    IAM simulates each action on the resource that the deployment would use.
    """
    names = {
        "partition": clients.identity["Arn"].split(":")[1],
        "region": clients.region,
        "account": clients.account_id,
        "environment": settings.environment,
        "airflow_role": settings.airflow_role or "airflow-worker",
    }
    refused = []
    for resource, actions in ADMINISTRATOR_ACTIONS.items():
        if "{airflow_role}" in resource and not settings.attaches_airflow_policy:
            continue
        answers = clients.iam.simulate_principal_policy(
            PolicySourceArn=source,
            ActionNames=list(actions),
            ResourceArns=[resource.format(**names)],
            ContextEntries=context_of(clients),
        )
        refused += [
            answer["EvalActionName"]
            for answer in answers["EvaluationResults"]
            if answer["EvalDecision"] != "allowed"
        ]
    return refused


def check_quotas(at: Situation) -> Iterator[Check]:
    """Check how many vCPUs may run at once. New accounts have none for GPU machines."""
    clients = at.clients
    quotas = clients.service_quotas
    for family, code, fewest, needed in VCPU_QUOTAS:
        value = find_quota(quotas, "ec2", code)
        bad = CheckResult.FAILED if needed else CheckResult.WARNING
        fix = (
            "ask for more: aws service-quotas request-service-quota-increase --service-code ec2 "
            f"--quota-code {code} --desired-value 16"
        )
        yield Check(
            name=f"vCPUs of {family}",
            verdict=bad if value < fewest else CheckResult.GOOD,
            found=f"{value:g}",
            fix=fix if value < fewest else "",
        )


def check_lambda(at: Situation) -> Iterator[Check]:
    """Check Lambda's Python, and how many evaluations may run at the same time."""
    clients, settings = at
    evaluation = find_stack(clients, stack_name(settings.environment, Concern.EVALUATION))
    runtime = lambda_runtime(settings, evaluation.parameters if evaluation else None)
    check_runtime(clients, runtime)
    yield Check(name="Lambda's Python", verdict=CheckResult.GOOD, found=runtime)
    limit = clients.lambda_.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]
    reserved = int(settings.parameters.get("ReservedConcurrency", "-1"))
    if reserved > 0 and limit - reserved < 100:
        yield Check(
            name="Lambda's concurrency",
            verdict=CheckResult.FAILED,
            found=f"{limit}, of which {reserved} would be reserved",
            fix="AWS keeps 100 unreserved: leave ReservedConcurrency at -1, or ask for more "
            "(quota L-B99A9384, lambda)",
        )
        return
    few = limit < 50
    yield Check(
        name="Lambda's concurrency",
        verdict=CheckResult.WARNING if few else CheckResult.GOOD,
        found=f"{limit} at the same time",
        fix="evaluations wait for each other; ask for more (quota L-B99A9384 of service lambda)"
        if few
        else "",
    )


def check_service_roles(at: Situation) -> Iterator[Check]:
    """Check that AWS's role for Spot exists. Without it the first spot launch fails."""
    clients = at.clients
    for service, name in SERVICE_ROLES.items():
        try:
            clients.iam.get_role(RoleName=name)
        except clients.iam.exceptions.NoSuchEntityException:
            yield Check(
                name=f"role of {service}",
                verdict=CheckResult.WARNING,
                found="not there yet",
                fix="`deploy` makes it, or: aws iam create-service-linked-role "
                f"--aws-service-name {service}",
            )
        else:
            yield Check(name=f"role of {service}", verdict=CheckResult.GOOD, found=name)


def ensure_service_roles(clients: Clients) -> list[str]:
    """Make the role that Spot works as, if it is missing. It belongs to AWS and costs nothing.

    :return: the services whose role was made.
    """
    made = []
    for service, name in SERVICE_ROLES.items():
        try:
            clients.iam.get_role(RoleName=name)
        except clients.iam.exceptions.NoSuchEntityException:
            try:
                clients.iam.create_service_linked_role(AWSServiceName=service)
            except ClientError as error:
                # With these codes another caller has made the role in the meantime.
                if code_of(error) not in ("InvalidInput", "EntityAlreadyExists"):
                    raise
            else:
                made.append(service)
    return made
