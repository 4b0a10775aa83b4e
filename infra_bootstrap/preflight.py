"""What would go wrong, found out before anything is made: a table, with the fix for each failure. Changes nothing.

A check that the caller may not make is a warning that says which permission is missing, not a failure.
"""

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from infra_bootstrap.clients import Clients, code_of, is_refusal, role_of_arn
from infra_bootstrap.deployed import find_stack
from infra_bootstrap.errors import BadInputError
from infra_bootstrap.images import find_image
from infra_bootstrap.parameters import WANTED_TYPES, lambda_runtime, zones_by_type
from infra_bootstrap.settings import LAPTOP_RUNTIMES, Settings
from infra_bootstrap.stacks import Concern, bucket_name, role_name, stack_name
from infra_bootstrap.template_files import parameters_of
from rl_lifecycle.records import Record

#: Service Quotas' codes for vCPUs, and the fewest with which one machine of the family starts.
#: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-quotas.html
VCPU_QUOTAS = (
    ("standard, spot", "L-34B43A08", 2, True), ("standard, on-demand", "L-1216C47A", 2, True),
    ("G and VT (GPU), spot", "L-3819A6DF", 4, False), ("G and VT (GPU), on-demand", "L-DB2E81BA", 4, False))
VPC_QUOTA = "L-F678F1CE"
#: The role that Spot works as; it belongs to AWS and cannot be made by a stack of ours that may be deleted. Fleet's role is
#: not made: an instant fleet needs none, and only with it could a standing fleet launch past the launcher's conditions.
#: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-fleet-prerequisites.html
SERVICE_ROLES = {"spot.amazonaws.com": "AWSServiceRoleForEC2Spot"}
#: What an administrator must be able to do for a first bootstrap, and Airflow's role for all others.
ADMINISTRATOR_ACTIONS = (
    "cloudformation:CreateChangeSet", "cloudformation:ExecuteChangeSet", "cloudformation:DescribeStacks", "iam:CreateRole",
    "iam:CreatePolicy", "iam:AttachRolePolicy", "iam:PutRolePolicy", "iam:PutRolePermissionsBoundary", "iam:PassRole",
    "iam:CreateInstanceProfile", "sts:AssumeRole")


class Verdict(StrEnum):
    """What a check found."""

    GOOD = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Check(Record):
    """One line of the table. :param fix: what to do; empty when nothing has to be done."""

    name: str
    verdict: Verdict
    found: str
    fix: str = ""


class Situation(NamedTuple):
    """Who asks, and for what."""

    clients: Clients
    settings: Settings


def run_checks(clients: Clients, settings: Settings) -> list[Check]:
    """Make every check, whatever the others found.

    :raises ClientError: if AWS does not even say who asks.
    """
    clients.account_id  # noqa: B018  nothing else can be asked without credentials that work
    checks: list[Check] = []
    for name, look in CHECKS.items():
        try:
            checks += list(look(Situation(clients, settings)))
        except BadInputError as error:
            checks.append(Check(name=name, verdict=Verdict.FAILED, found=str(error), fix="see there"))
        except ClientError as error:
            fix = f"allow {clients.identity['Arn']} what {error.operation_name} needs" if is_refusal(error) else ""
            checks.append(Check(name=name, verdict=Verdict.WARNING, found=f"cannot be looked at: {code_of(error)}", fix=fix))
    return checks


def is_on_this_machine(clients: Clients) -> bool:
    """Whether the endpoint is on the loopback: then Lambda's Python is this machine's, not AWS's."""
    return urlsplit(clients.sts.meta.endpoint_url).hostname in ("127.0.0.1", "localhost", "::1")


def check_runtime(clients: Clients, runtime: str) -> None:
    """Refuse a Lambda runtime that cannot load the layer on AWS.

    :raises BadInputError: with what to choose instead.
    """
    if runtime in LAPTOP_RUNTIMES and not is_on_this_machine(clients):
        raise BadInputError(f"--lambda-runtime {runtime}: onnxruntime's wheels need glibc 2.28, and Lambda's {runtime} has 2.26; "
                            "choose python3.12 or later")


def _caller(at: Situation) -> Iterator[Check]:
    clients = at.clients
    arn = clients.identity["Arn"]
    if arn.endswith(":root"):
        yield Check(name="who am I", verdict=Verdict.FAILED, found=arn, fix="use a role or a user: root cannot assume roles")
        return
    yield Check(name="who am I", verdict=Verdict.GOOD, found=arn)
    yield Check(name="account and region", verdict=Verdict.GOOD, found=f"{clients.account_id}, {clients.region}")


def _airflow_role(at: Situation) -> Iterator[Check]:
    clients, settings = at
    identity = find_stack(clients, stack_name(settings.environment, Concern.IDENTITY))
    default = parameters_of(Concern.IDENTITY)["AirflowRoleName"]["Default"]
    name = settings.airflow_role or (identity.parameters["AirflowRoleName"] if identity and not identity.is_dead else default)
    if role_of_arn(clients.identity["Arn"]) == name:
        yield Check(name="Airflow's role", verdict=Verdict.GOOD, found=f"{name}, and it is asking")
        return
    try:
        clients.iam.get_role(RoleName=name)
    except clients.iam.exceptions.NoSuchEntityException:
        yield Check(name="Airflow's role", verdict=Verdict.FAILED, found=f"{name} does not exist",
                    fix="name the role that Airflow's workers run as: --airflow-role NAME")
        return
    yield Check(name="Airflow's role", verdict=Verdict.GOOD, found=name)


def _names(at: Situation) -> Iterator[Check]:
    """Role names are global in an account: the same environment cannot live in two regions."""
    clients, settings = at
    name = role_name(settings.environment, "launcher")
    stack = find_stack(clients, stack_name(settings.environment, Concern.IDENTITY))
    if stack is not None and not stack.is_dead:
        yield Check(name="environment", verdict=Verdict.GOOD, found=f"{settings.environment} is deployed here")
        return
    try:
        clients.iam.get_role(RoleName=name)
    except clients.iam.exceptions.NoSuchEntityException:
        yield Check(name="environment", verdict=Verdict.GOOD, found=f"{settings.environment} is free")
        return
    yield Check(name="environment", verdict=Verdict.FAILED,
                found=f"the role {name} exists, and its stack is not in {clients.region}",
                fix="choose the region where the environment lives, or another name")


def _permissions(at: Situation) -> Iterator[Check]:
    """Ask IAM what the caller may do. Conditions and organisations' policies are beyond the simulation."""
    clients, settings = at
    role = role_of_arn(clients.identity["Arn"])
    source = clients.iam.get_role(RoleName=role)["Role"]["Arn"] if role else clients.identity["Arn"]
    answers = clients.iam.simulate_principal_policy(PolicySourceArn=source, ActionNames=list(ADMINISTRATOR_ACTIONS))
    refused = [answer["EvalActionName"] for answer in answers["EvaluationResults"] if answer["EvalDecision"] != "allowed"]
    exists = find_stack(clients, stack_name(settings.environment, Concern.IDENTITY)) is not None
    if refused and not exists:
        yield Check(name="permissions", verdict=Verdict.FAILED, found=f"may not {', '.join(refused)}",
                    fix="let an administrator bootstrap the first time: it makes the roles")
    else:
        found = "an administrator's" if not refused else "Airflow's: everything but identity"
        yield Check(name="permissions", verdict=Verdict.GOOD, found=found)


def _zones(at: Situation) -> Iterator[Check]:
    clients = at.clients
    offered = zones_by_type(clients)
    for name in WANTED_TYPES:
        zones = sorted(offered.get(name, ()))
        fix = "" if zones else "leave it out of compute.instance_types, or choose another region"
        yield Check(name=f"zones with {name}", verdict=Verdict.GOOD if zones else Verdict.WARNING,
                    found=", ".join(zones) or "none", fix=fix)
    if not offered:
        yield Check(name="zones", verdict=Verdict.FAILED, found="no zone offers what is wanted", fix="choose another region")


def _quotas(at: Situation) -> Iterator[Check]:
    clients = at.clients
    quotas = clients.client("service-quotas")
    for family, code, fewest, needed in VCPU_QUOTAS:
        value = float(quotas.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"])
        bad = Verdict.FAILED if needed else Verdict.WARNING
        fix = ("ask for more: aws service-quotas request-service-quota-increase --service-code ec2 "
               f"--quota-code {code} --desired-value 16")
        yield Check(name=f"vCPUs of {family}", verdict=bad if value < fewest else Verdict.GOOD, found=f"{value:g}",
                    fix=fix if value < fewest else "")


def _vpcs(at: Situation) -> Iterator[Check]:
    clients, settings = at
    quota = float(clients.client("service-quotas").get_service_quota(ServiceCode="vpc", QuotaCode=VPC_QUOTA)["Quota"]["Value"])
    used = len(clients.ec2.describe_vpcs()["Vpcs"])
    deployed = find_stack(clients, stack_name(settings.environment, Concern.NETWORK)) is not None
    full = used >= quota and not deployed
    yield Check(name="VPCs", verdict=Verdict.FAILED if full else Verdict.GOOD, found=f"{used} of {quota:g}",
                fix=f"delete one, or ask for more (quota {VPC_QUOTA} of service vpc)" if full else "")


def _image(at: Situation) -> Iterator[Check]:
    clients, settings = at
    training = find_stack(clients, stack_name(settings.environment, Concern.TRAINING))
    name = settings.parameters.get("ImageId") or (training.parameters.get("ImageId") if training else None)
    image = find_image(clients, name)
    wanted = int(settings.parameters.get("VolumeGib", parameters_of(Concern.TRAINING)["VolumeGib"]["Default"]))
    small = wanted < image.volume_gib
    yield Check(name="machine image", verdict=Verdict.FAILED if small else Verdict.GOOD,
                found=f"{image.image_id}, Python {image.target.python}, {image.volume_gib} GiB",
                fix=f"--parameter VolumeGib={image.volume_gib}" if small else "")


def _bucket(at: Situation) -> Iterator[Check]:
    clients, settings = at
    name = bucket_name(settings.environment, clients.account_id, clients.region)
    try:
        clients.s3.head_bucket(Bucket=name, ExpectedBucketOwner=clients.account_id)
    except ClientError as error:
        if code_of(error) in ("404", "NoSuchBucket"):
            yield Check(name="bucket", verdict=Verdict.GOOD, found=f"{name} is free")
            return
        yield Check(name="bucket", verdict=Verdict.FAILED, found=f"{name} is taken by somebody else",
                    fix="choose another environment's name: bucket names are shared by all of AWS")
        return
    ours = find_stack(clients, stack_name(settings.environment, Concern.STORAGE)) is not None
    yield Check(name="bucket", verdict=Verdict.GOOD if ours else Verdict.FAILED, found=f"{name} is {'ours' if ours else 'there'}",
                fix="" if ours else "it was not made by our storage stack: delete it, or choose another environment's name")


def _lambda(at: Situation) -> Iterator[Check]:
    clients, settings = at
    evaluation = find_stack(clients, stack_name(settings.environment, Concern.EVALUATION))
    runtime = lambda_runtime(settings, evaluation.parameters if evaluation else None)
    check_runtime(clients, runtime)
    yield Check(name="Lambda's Python", verdict=Verdict.GOOD, found=runtime)
    limit = clients.client("lambda").get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]
    reserved = int(settings.parameters.get("ReservedConcurrency", "-1"))
    if reserved > 0 and limit - reserved < 100:
        yield Check(name="Lambda's concurrency", verdict=Verdict.FAILED, found=f"{limit}, of which {reserved} would be reserved",
                    fix="AWS keeps 100 unreserved: leave ReservedConcurrency at -1, or ask for more (quota L-B99A9384, lambda)")
        return
    few = limit < 50
    yield Check(name="Lambda's concurrency", verdict=Verdict.WARNING if few else Verdict.GOOD, found=f"{limit} at the same time",
                fix="evaluations wait for each other; ask for more (quota L-B99A9384 of service lambda)" if few else "")


def _service_roles(at: Situation) -> Iterator[Check]:
    clients = at.clients
    for service, name in SERVICE_ROLES.items():
        try:
            clients.iam.get_role(RoleName=name)
        except clients.iam.exceptions.NoSuchEntityException:
            yield Check(name=f"role of {service}", verdict=Verdict.WARNING, found="not there yet",
                        fix=f"`deploy` makes it, or: aws iam create-service-linked-role --aws-service-name {service}")
        else:
            yield Check(name=f"role of {service}", verdict=Verdict.GOOD, found=name)


def _stacks(at: Situation) -> Iterator[Check]:
    clients, settings = at
    for concern in Concern:
        stack = find_stack(clients, stack_name(settings.environment, concern))
        if stack is None:
            continue
        verdict = Verdict.FAILED if stack.is_busy else Verdict.WARNING if stack.is_dead else Verdict.GOOD
        fix = "wait until it has ended" if stack.is_busy else "`deploy` clears it away and makes it anew" if stack.is_dead else ""
        yield Check(name=stack.name, verdict=verdict, found=stack.status, fix=fix)


CHECKS: dict[str, Callable[[Situation], Iterator[Check]]] = {
    "who am I": _caller, "Airflow's role": _airflow_role, "environment": _names, "permissions": _permissions,
    "zones": _zones, "vCPUs": _quotas, "VPCs": _vpcs, "machine image": _image, "bucket": _bucket, "Lambda": _lambda,
    "service-linked roles": _service_roles, "stacks": _stacks}


def ensure_service_roles(clients: Clients) -> list[str]:
    """Make the role that Spot works as, where it is missing. It belongs to AWS and costs nothing.

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
                if code_of(error) not in ("InvalidInput", "EntityAlreadyExists"):  # else somebody was faster
                    raise
            else:
                made.append(service)
    return made
