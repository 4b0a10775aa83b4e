"""Checks of the environment: its names, zones, addresses, machine image, bucket and stacks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from infra_bootstrap.clients import code_of, role_of_arn
from infra_bootstrap.preflight.results import Check, CheckResult, Situation
from infra_bootstrap.stacks.concerns import Concern, bucket_name, role_name, stack_name
from infra_bootstrap.stacks.deployed import find_stack
from infra_bootstrap.stacks.images import find_image
from infra_bootstrap.stacks.parameters import WANTED_TYPES, zones_by_type
from infra_bootstrap.stacks.template_files import condition_holds, parameters_of

VPC_QUOTA = "L-F678F1CE"
#: A subnet with fewer free addresses counts as full. Each machine takes one address.
FEW_ADDRESSES = 16


def check_airflow_role(at: Situation) -> Iterator[Check]:
    """Check that Airflow's role exists, because identity attaches a policy to it."""
    clients, settings = at
    identity = find_stack(clients, stack_name(settings.environment, Concern.IDENTITY))
    default = parameters_of(Concern.IDENTITY)["AirflowRoleName"]["Default"]
    name = settings.airflow_role or (
        identity.parameters["AirflowRoleName"] if identity and not identity.is_dead else default
    )
    if role_of_arn(clients.identity["Arn"]) == name:
        yield Check(
            name="Airflow's role", verdict=CheckResult.GOOD, found=f"{name}, and it is the caller"
        )
        return
    try:
        clients.iam.get_role(RoleName=name)
    except clients.iam.exceptions.NoSuchEntityException:
        yield Check(
            name="Airflow's role",
            verdict=CheckResult.FAILED,
            found=f"{name} does not exist",
            fix="name the role that Airflow's workers run as: --airflow-role NAME",
        )
        return
    yield Check(name="Airflow's role", verdict=CheckResult.GOOD, found=name)


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
        yield Check(
            name="environment", verdict=CheckResult.GOOD, found=f"{settings.environment} is free"
        )
        return
    yield Check(
        name="environment",
        verdict=CheckResult.FAILED,
        found=f"the role {name} exists, and its stack is not in {clients.region}",
        fix="choose the region where the environment lives, or another name",
    )


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
    quota = float(
        clients.service_quotas.get_service_quota(ServiceCode="vpc", QuotaCode=VPC_QUOTA)["Quota"][
            "Value"
        ]
    )
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


def check_image(at: Situation) -> Iterator[Check]:
    """Check that the machine image exists in the region, and fits on the volume."""
    clients, settings = at
    training = find_stack(clients, stack_name(settings.environment, Concern.TRAINING))
    name = settings.parameters.get("ImageId") or (
        training.parameters.get("ImageId") if training else None
    )
    image = find_image(clients, name)
    wanted = int(
        settings.parameters.get(
            "VolumeGib", parameters_of(Concern.TRAINING)["VolumeGib"]["Default"]
        )
    )
    small = wanted < image.volume_gib
    yield Check(
        name="machine image",
        verdict=CheckResult.FAILED if small else CheckResult.GOOD,
        found=f"{image.image_id}, Python {image.target.python}, {image.volume_gib} GiB",
        fix=f"--parameter VolumeGib={image.volume_gib}" if small else "",
    )


def check_bucket(at: Situation) -> Iterator[Check]:
    """Check that the bucket's name is free, or that the bucket is ours."""
    clients, settings = at
    name = bucket_name(settings.environment, clients.account_id, clients.region)
    try:
        clients.s3.head_bucket(Bucket=name, ExpectedBucketOwner=clients.account_id)
    except ClientError as error:
        if code_of(error) in ("404", "NoSuchBucket"):
            yield Check(name="bucket", verdict=CheckResult.GOOD, found=f"{name} is free")
            return
        yield Check(
            name="bucket",
            verdict=CheckResult.FAILED,
            found=f"{name} belongs to another account",
            fix="choose another environment's name: bucket names are shared by all of AWS",
        )
        return
    ours = find_stack(clients, stack_name(settings.environment, Concern.STORAGE)) is not None
    yield Check(
        name="bucket",
        verdict=CheckResult.GOOD if ours else CheckResult.FAILED,
        found=f"{name} is ours" if ours else f"{name} already exists",
        fix=""
        if ours
        else ("our storage stack did not make it: delete it, or choose another environment's name"),
    )


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
