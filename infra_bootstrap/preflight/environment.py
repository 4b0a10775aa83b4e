"""Checks of the environment: its names, zones, addresses, machine image, bucket and stacks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from infra_bootstrap.clients import is_missing, is_refusal, role_of_arn
from infra_bootstrap.errors import AccessRefusedError
from infra_bootstrap.preflight.buckets import BucketOwner, find_owner
from infra_bootstrap.preflight.policies import check_boundary
from infra_bootstrap.preflight.quotas import find_quota
from infra_bootstrap.preflight.results import Check, CheckResult, Situation
from infra_bootstrap.reaper.reaper import ENVIRONMENT_TAG
from infra_bootstrap.stacks.concerns import Concern, bucket_name, role_name, stack_name
from infra_bootstrap.stacks.deployed import find_stack, list_stacks
from infra_bootstrap.stacks.parameters import WANTED_TYPES, zones_by_type
from infra_bootstrap.stacks.template_files import condition_holds, parameters_of

VPC_QUOTA = "L-F678F1CE"
#: AWS's own key of EBS, and the parameters that name another key and give rights on it.
AWS_KEY = "alias/aws/ebs"
VOLUME_KEY, VOLUME_KEY_RIGHTS = "VolumeKmsKeyId", "VolumeKmsKeyArn"
#: A subnet with fewer free addresses counts as full. Each machine takes one address.
FEW_ADDRESSES = 16


def check_airflow_role(at: Situation) -> Iterator[Check]:
    """Check that Airflow's role exists, and that its boundary lets the policy work.

    Identity attaches a policy to the role.
    """
    clients, settings = at
    if not settings.attaches_airflow_policy:
        found = "none needed: AttachAirflowPolicy is false"
        yield Check(name="Airflow's role", verdict=CheckResult.GOOD, found=found)
        return
    identity = find_stack(clients, stack_name(settings.environment, Concern.IDENTITY))
    default = parameters_of(Concern.IDENTITY)["AirflowRoleName"]["Default"]
    name = settings.airflow_role or (
        identity.parameters["AirflowRoleName"] if identity and not identity.is_dead else default
    )
    is_caller = role_of_arn(clients.identity["Arn"]) == name
    good = Check(
        name="Airflow's role",
        verdict=CheckResult.GOOD,
        found=f"{name}, and it is the caller" if is_caller else name,
    )
    try:
        role = clients.iam.get_role(RoleName=name)["Role"]
    except ClientError as error:
        if is_caller and is_refusal(error):
            yield good  # Airflow's policy does not let it read its own role, and it need not
            return
        if not is_missing(error):
            raise
        yield Check(
            name="Airflow's role",
            verdict=CheckResult.FAILED,
            found=f"{name} does not exist",
            fix="name the role that Airflow's workers run as: --airflow-role NAME. Without "
            "Airflow: --parameter AttachAirflowPolicy=false",
        )
        return
    yield check_boundary(clients, settings.environment, role) or good


def check_names(at: Situation) -> Iterator[Check]:
    """Check that no other region has the environment, because role names are global in AWS."""
    clients, settings = at
    name = role_name(settings.environment, "launcher")
    stack = find_stack(clients, stack_name(settings.environment, Concern.IDENTITY))
    if stack is not None and not stack.is_dead:
        yield Check(
            name="environment",
            verdict=CheckResult.GOOD,
            found=f"{settings.environment} is deployed here",
        )
        return
    try:
        clients.iam.get_role(RoleName=name)
    except clients.iam.exceptions.NoSuchEntityException:
        yield _unlike_others(at)
        return
    yield Check(
        name="environment",
        verdict=CheckResult.FAILED,
        found=f"the role {name} exists, and its stack is not in {clients.region}",
        fix="choose the region where the environment lives, or another name",
    )


def _unlike_others(at: Situation) -> Check:
    """Refuse a new name that continues another's, because rights are given by beginnings of names.

    The deployer of `dev` may change `nightshift-dev-*`, and so the functions of `dev-b`.
    """
    clients, name = at.clients, at.settings.environment
    try:
        stacks = list_stacks(clients, {})
    except AccessRefusedError:  # Airflow's role may not look; an administrator may
        stacks = []
    end = f"-{Concern.IDENTITY}"
    others = {
        one.name.removeprefix("nightshift-").removesuffix(end)
        for one in stacks
        if one.name.startswith("nightshift-") and one.name.endswith(end)
    }
    for other in sorted(others):
        if name.startswith(f"{other}-") or other.startswith(f"{name}-"):
            return Check(
                name="environment",
                verdict=CheckResult.FAILED,
                found=f"the names of {name} and {other} begin alike, and so each could reach what "
                "belongs to the other",
                fix=f"choose a name that does not continue {other}, or the other way round",
            )
    return Check(name="environment", verdict=CheckResult.GOOD, found=f"{name} is free")


def check_zones(at: Situation) -> Iterator[Check]:
    """Check which zones offer the wanted instance types. The network gets a subnet in each zone."""
    clients = at.clients
    offered = zones_by_type(clients)
    for name in WANTED_TYPES:
        zones = sorted(offered.get(name, ()))
        fix = "" if zones else "leave it out of compute.instance_types, or choose another region"
        yield Check(
            name=f"zones with {name}",
            verdict=CheckResult.GOOD if zones else CheckResult.WARNING,
            found=", ".join(zones) or "none",
            fix=fix,
        )
    if not offered:
        yield Check(
            name="zones",
            verdict=CheckResult.FAILED,
            found="no zone offers a wanted instance type",
            fix="choose another region",
        )


def check_vpcs(at: Situation) -> Iterator[Check]:
    """Check the quota of VPCs. By default an account may have five in a region."""
    clients, settings = at
    quota = find_quota(clients.service_quotas, "vpc", VPC_QUOTA)
    used = len(clients.ec2.describe_vpcs()["Vpcs"])
    deployed = find_stack(clients, stack_name(settings.environment, Concern.NETWORK)) is not None
    full = used >= quota and not deployed
    yield Check(
        name="VPCs",
        verdict=CheckResult.FAILED if full else CheckResult.GOOD,
        found=f"{used} of {quota:g}",
        fix=f"delete one, or ask for more (quota {VPC_QUOTA} of service vpc)" if full else "",
    )


def check_addresses(at: Situation) -> Iterator[Check]:
    """Check that the subnets have free addresses. No machine starts in a full subnet."""
    clients, settings = at
    network = find_stack(clients, stack_name(settings.environment, Concern.NETWORK))
    if network is None or not network.outputs:
        return
    subnets = [
        value.split("=", 1)[1]
        for name, value in sorted(network.outputs.items())
        if name.startswith("Subnet")
    ]
    yield judge_addresses(clients.ec2.describe_subnets(SubnetIds=subnets)["Subnets"])


def judge_addresses(subnets: Sequence[Mapping[str, Any]]) -> Check:
    """Check the free addresses of subnets: a failure if all are full, a warning if some are.

    >>> judge_addresses([{"AvailabilityZone": "eu-west-1a", "AvailableIpAddressCount": 0}]).verdict
    <CheckResult.FAILED: 'failed'>
    """
    free = {
        str(subnet["AvailabilityZone"]): int(subnet["AvailableIpAddressCount"])
        for subnet in subnets
    }
    full = [zone for zone, count in sorted(free.items()) if count < FEW_ADDRESSES]
    found = ", ".join(f"{zone} {count}" for zone, count in sorted(free.items()))
    if not full:
        return Check(name="free addresses", verdict=CheckResult.GOOD, found=found)
    verdict = CheckResult.FAILED if len(full) == len(free) else CheckResult.WARNING
    return Check(
        name="free addresses",
        verdict=verdict,
        found=found,
        fix=f"no room in {', '.join(full)}: end machines or network interfaces that hold "
        "addresses there",
    )


def check_budget(at: Situation) -> Iterator[Check]:
    """Check that the region can have the budget that was asked for."""
    name = "MonthlyBudgetUsd"
    evaluation = find_stack(at.clients, stack_name(at.settings.environment, Concern.EVALUATION))
    deployed = evaluation.parameters if evaluation else {}
    asked = at.settings.parameters.get(name) or deployed.get(name, "0")
    values = {name: asked, "AWS::Region": at.clients.region}
    if asked == "0":
        return
    if condition_holds(Concern.EVALUATION, "HasBudget", values):
        yield Check(name="budget", verdict=CheckResult.GOOD, found=f"{asked} USD a month")
        return
    yield Check(
        name="budget",
        verdict=CheckResult.FAILED,
        found=f"{at.clients.region} has no AWS::Budgets::Budget",
        fix=f"deploy with --parameter {name}=0, and make the budget in the Billing console, which "
        f"covers all regions, for the tag nightshift:environment={at.settings.environment}",
    )


def check_volume_key(at: Situation) -> Iterator[Check]:
    """Check that EC2 may use the key that encrypts the machines' volumes.

    A launch template without a key takes the account's default key of EBS. With a customer-managed
    key and without rights on it, EC2 ends the machine right after its start.
    Source: https://docs.aws.amazon.com/autoscaling/ec2/userguide/key-policy-requirements-EBS-encryption.html
    """
    clients, settings = at
    declared = parameters_of(Concern.TRAINING).get(VOLUME_KEY, {})
    key = settings.parameters.get(VOLUME_KEY) or declared.get("Default")
    whose = "chosen"
    if key is None:
        key, whose = clients.ec2.get_ebs_default_kms_key_id()["KmsKeyId"], "the account's default"
    foreign = not key.endswith(AWS_KEY) and settings.parameters.get(VOLUME_KEY_RIGHTS) != key
    fix = (
        f"give the launcher rights on it: --parameter {VOLUME_KEY_RIGHTS}={key}"
        if VOLUME_KEY_RIGHTS in parameters_of(Concern.IDENTITY)
        else f"the launcher has no rights on it: aws ec2 reset-ebs-default-kms-key-id --region "
        f"{clients.region}"
    )
    yield Check(
        name="volume key",
        verdict=CheckResult.FAILED if foreign else CheckResult.GOOD,
        found=f"{key}, {whose}",
        fix=fix if foreign else "",
    )


def check_bucket(at: Situation) -> Iterator[Check]:
    """Check that the bucket's name is free, or that the bucket is ours."""
    clients, settings = at
    name = bucket_name(settings.environment, clients.account_id, clients.region)
    if find_stack(clients, stack_name(settings.environment, Concern.STORAGE)) is not None:
        yield Check(name="bucket", verdict=CheckResult.GOOD, found=f"{name} has its stack")
        return
    owner = find_owner(clients, settings.environment, name)
    if owner is BucketOwner.NONE:
        yield Check(name="bucket", verdict=CheckResult.GOOD, found=f"{name} is free")
        return
    tag = f"{{Key={ENVIRONMENT_TAG},Value={settings.environment}}}"
    verdict, found, fix = {
        BucketOwner.OTHER_ACCOUNT: (
            CheckResult.FAILED,
            "belongs to another account",
            "choose another environment's name: bucket names are shared by all of AWS",
        ),
        BucketOwner.ENVIRONMENT: (
            CheckResult.WARNING,
            "is ours, and has lost its stack",
            "`deploy` by an administrator takes it over with everything in it; `destroy "
            f"--environment {settings.environment} --delete-bucket` deletes it",
        ),
        BucketOwner.ACCOUNT: (
            CheckResult.FAILED,
            "already exists, and does not have our tag",
            "our storage stack did not make it: delete it, or choose another environment's name. "
            "If it is ours, tag it, then `deploy` takes it over: aws s3api put-bucket-tagging "
            f"--bucket {name} --tagging 'TagSet=[{tag}]'",
        ),
    }[owner]
    yield Check(name="bucket", verdict=verdict, found=f"{name} {found}", fix=fix)


def check_stacks(at: Situation) -> Iterator[Check]:
    """Check the stacks that exist, and that no deployment is changing them."""
    clients, settings = at
    for concern in Concern:
        stack = find_stack(clients, stack_name(settings.environment, concern))
        if stack is None:
            continue
        verdict = (
            CheckResult.FAILED
            if stack.is_busy
            else CheckResult.WARNING
            if stack.is_dead
            else CheckResult.GOOD
        )
        fix = (
            "wait until it has ended"
            if stack.is_busy
            else "`deploy` deletes it and makes it again"
            if stack.is_dead
            else ""
        )
        yield Check(name=stack.name, verdict=verdict, found=stack.status, fix=fix)
