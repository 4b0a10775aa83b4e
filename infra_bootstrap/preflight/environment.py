"""Checks of what an environment is made of: its names, zones, addresses, image, bucket and
stacks.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from infra_bootstrap.clients import code_of, role_of_arn
from infra_bootstrap.preflight.check import Check, CheckResult, Situation
from infra_bootstrap.stacks.concerns import Concern, bucket_name, role_name, stack_name
from infra_bootstrap.stacks.deployed import find_stack
from infra_bootstrap.stacks.images import find_image
from infra_bootstrap.stacks.parameters import WANTED_TYPES, zones_by_type
from infra_bootstrap.stacks.template_files import parameters_of

VPC_QUOTA = "L-F678F1CE"
#: Below so many free addresses a subnet is as good as full: each machine takes one.
FEW_ADDRESSES = 16


def check_airflow_role(at: Situation) -> Iterator[Check]:
    """Identity attaches a policy to it, so it must exist."""
    clients, settings = at
    identity = find_stack(clients, stack_name(settings.environment, Concern.IDENTITY))
    default = parameters_of(Concern.IDENTITY)["AirflowRoleName"]["Default"]
    name = settings.airflow_role or (
        identity.parameters["AirflowRoleName"] if identity and not identity.is_dead else default
    )
    if role_of_arn(clients.identity["Arn"]) == name:
        yield Check(
            name="Airflow's role", verdict=CheckResult.GOOD, found=f"{name}, and it is asking"
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
    """Role names are global in an account: the same environment cannot live in two regions."""
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
    """Where what is wanted can be rented; the network gets a subnet in each of these zones."""
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
            found="no zone offers what is wanted",
            fix="choose another region",
        )


def check_vpcs(at: Situation) -> Iterator[Check]:
    """An account has five networks in a region unless it asked for more."""
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
    """A full subnet starts no machine; Fleet would try the others, and find none when all are
    full.
    """
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
    """Judge subnets by their free addresses: a failure if none has room, a warning if some have
    not.

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


def check_image(at: Situation) -> Iterator[Check]:
    """The machine image exists in the region, and fits on the volume."""
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
    """The bucket's name is free, or the bucket is ours."""
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
            found=f"{name} is taken by somebody else",
            fix="choose another environment's name: bucket names are shared by all of AWS",
        )
        return
    ours = find_stack(clients, stack_name(settings.environment, Concern.STORAGE)) is not None
    yield Check(
        name="bucket",
        verdict=CheckResult.GOOD if ours else CheckResult.FAILED,
        found=f"{name} is {'ours' if ours else 'there'}",
        fix=""
        if ours
        else (
            "it was not made by our storage stack: delete it, or choose another environment's name"
        ),
    )


def check_stacks(at: Situation) -> Iterator[Check]:
    """What is there of the environment, and whether somebody is at work on it."""
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
            else "`deploy` clears it away and makes it anew"
            if stack.is_dead
            else ""
        )
        yield Check(name=stack.name, verdict=verdict, found=stack.status, fix=fix)
