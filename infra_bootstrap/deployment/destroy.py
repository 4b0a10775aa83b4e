"""Delete an environment, and prove that nothing of it is left."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from infra_bootstrap.clients import Clients, code_of, refused_or_same
from infra_bootstrap.deployment.one_stack import (
    DEPLOYMENT_TAG,
    await_deletion,
    delete_stack,
    is_airflow,
)
from infra_bootstrap.errors import AccessRefusedError, InstancesRunningError, NotConfirmedError
from infra_bootstrap.reaper.reaper import ENVIRONMENT_TAG, find_machines
from infra_bootstrap.stacks.concerns import WAVES, Concern, bucket_name, stack_name
from infra_bootstrap.stacks.deployed import find_stack
from infra_bootstrap.stacks.settings import DeploymentSettings
from rl_lifecycle.records.record import Record

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

Say = Callable[[str], None]
#: The error codes of services for something that does not exist.
MISSING = frozenset(
    {
        "404",
        "NoSuchBucket",
        "NotFound",
        "ResourceNotFoundException",
        "AWS.SimpleQueueService.NonExistentQueue",
        "QueueDoesNotExist",
    }
)
#: The reason why two stacks are kept, as it is printed.
WHY_KEPT = (
    "storage holds what was trained, and identity holds the role that can delete storage; an "
    "administrator deletes both with `destroy --delete-bucket`"
)


class Destruction(Record):
    """What was deleted, and what was kept on purpose.

    :param leftovers: what still exists although it should not. It must be empty.
    :param why_kept: the reason, for a person. It is empty if nothing was kept.
    """

    deleted: tuple[str, ...]
    kept: tuple[str, ...]
    leftovers: tuple[str, ...]
    why_kept: str = ""


def destroy(
    clients: Clients,
    settings: DeploymentSettings,
    confirm: str | None,
    say: Say,
    *,
    delete_bucket: bool = False,
) -> Destruction:
    """Delete the stacks of an environment, in the reverse order of `deploy`.

    The storage stack and its bucket are kept by default, because they hold what was trained, judged
    and promoted. Identity is kept as long as storage is, because CloudFormation deletes the storage
    stack with identity's deployer role. Airflow's role deletes the stacks that cost money, and
    leaves these two to an administrator.

    :param confirm: must be the environment's exact name.
    :param delete_bucket: whether to delete storage with its bucket, and identity, too.
    :raises NotConfirmedError: if `confirm` is another word.
    :raises InstancesRunningError: if machines run.
    """
    if confirm != settings.environment:
        raise NotConfirmedError(settings.environment)
    running = [
        str(machine["InstanceId"]) for machine in find_machines(clients.ec2, settings.environment)
    ]
    if running:
        raise InstancesRunningError(running)
    kept = _kept(clients, settings, delete_bucket)
    deleted = tuple(_delete(clients, settings, kept, say, delete_bucket=delete_bucket))
    names = tuple(
        name
        for concern in Concern
        if concern in kept
        and find_stack(clients, name := stack_name(settings.environment, concern))
    )
    if names:
        say(f"{', '.join(names)}: kept; {WHY_KEPT}")
    return Destruction(
        deleted=deleted,
        kept=names,
        leftovers=tuple(find_leftovers(clients, settings, kept)),
        why_kept=WHY_KEPT if names else "",
    )


def _kept(clients: Clients, settings: DeploymentSettings, delete_bucket: bool) -> set[Concern]:
    identity = find_stack(clients, stack_name(settings.environment, Concern.IDENTITY))
    if identity is not None and is_airflow(clients, identity.parameters):
        if delete_bucket:
            raise AccessRefusedError(
                "deleting the bucket",
                "Airflow's role may not; let an administrator run "
                f"`python -m infra_bootstrap destroy --environment {settings.environment} "
                "--delete-bucket`",
            )
        return {Concern.IDENTITY, Concern.STORAGE}
    if delete_bucket:
        return set()
    stored = find_stack(clients, stack_name(settings.environment, Concern.STORAGE)) is not None
    return {Concern.IDENTITY, Concern.STORAGE} if stored else {Concern.STORAGE}


def _delete(
    clients: Clients,
    settings: DeploymentSettings,
    kept: set[Concern],
    say: Say,
    *,
    delete_bucket: bool,
) -> Iterator[str]:
    command = (
        f"python -m infra_bootstrap destroy --environment {settings.environment} --confirm "
        f"{settings.environment}"
    )
    for wave in reversed(WAVES):
        begun = []
        for concern in wave:
            stack = find_stack(clients, stack_name(settings.environment, concern))
            if stack is None or concern in kept:
                continue
            if concern is Concern.STORAGE and delete_bucket:
                say("emptying the bucket")
                empty_bucket(
                    clients, bucket_name(settings.environment, clients.account_id, clients.region)
                )
            if stack.protected:
                clients.cloudformation.update_termination_protection(
                    StackName=stack.name, EnableTerminationProtection=False
                )
            delete_stack(clients, settings, concern)
            begun.append(stack)
        for stack in begun:
            await_deletion(clients, stack.stack_id, command)
            say(f"{stack.name}: deleted")
            yield stack.name
        if delete_bucket and Concern.STORAGE in wave:
            yield from _delete_bucket(
                clients, bucket_name(settings.environment, clients.account_id, clients.region)
            )


def empty_bucket(clients: Clients, bucket: str) -> int:
    """Delete every version of every object. This cannot be undone.

    First it deletes the bucket's policy, which forbids the deletion.

    :return: how many versions were deleted.
    """
    count = 0
    try:
        clients.s3.delete_bucket_policy(Bucket=bucket)
        for page in clients.s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            found: list[ObjectIdentifierTypeDef] = [
                {"Key": item["Key"], "VersionId": item["VersionId"]}
                for item in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
            ]
            if found:
                clients.s3.delete_objects(Bucket=bucket, Delete={"Objects": found, "Quiet": True})
            count += len(found)
    except ClientError as error:
        if code_of(error) == "NoSuchBucket":
            return 0
        raise refused_or_same(error, f"emptying {bucket}") from error
    return count


def _delete_bucket(clients: Clients, bucket: str) -> Iterator[str]:
    """Delete the bucket, which its stack retains. :return: its name, if it existed."""
    try:
        clients.s3.delete_bucket(Bucket=bucket)
    except ClientError as error:
        if code_of(error) in ("NoSuchBucket", "404"):
            return
        raise refused_or_same(error, f"s3:DeleteBucket {bucket}") from error
    yield bucket


def find_leftovers(
    clients: Clients, settings: DeploymentSettings, kept: set[Concern]
) -> Iterator[str]:
    """List what still exists of an environment, except for what was kept.

    No single service knows everything, so three services are asked. CloudFormation knows the
    stacks, EC2 knows its own tags, and the tagging service knows the rest. A terminated machine
    keeps its tags for an hour and does not count. The answers of the tagging service are late, so
    its resources are looked up again by name where that is possible.
    """
    for concern in Concern:
        name = stack_name(settings.environment, concern)
        if concern not in kept and find_stack(clients, name):
            yield name
    yield from _tagged_in_ec2(clients, settings.environment) if Concern.NETWORK not in kept else ()
    arns = {
        arn
        for key in (ENVIRONMENT_TAG, DEPLOYMENT_TAG)
        for arn in _tagged(clients, key, settings.environment)
    }
    yield from sorted(
        arn for arn in arns if not _is_kept(arn, settings, kept) and not _is_gone(clients, arn)
    )


def _tagged_in_ec2(clients: Clients, environment: str) -> Iterator[str]:
    found: dict[str, str] = {}
    for key in (ENVIRONMENT_TAG, DEPLOYMENT_TAG):
        filters: list[FilterTypeDef] = [
            {"Name": "key", "Values": [key]},
            {"Name": "value", "Values": [environment]},
        ]
        for page in clients.ec2.get_paginator("describe_tags").paginate(Filters=filters):
            found |= {item["ResourceId"]: item["ResourceType"] for item in page["Tags"]}
    running = {str(machine["InstanceId"]) for machine in find_machines(clients.ec2, environment)}
    with_machines = ("instance", "volume", "network-interface", "spot-instances-request", "fleet")
    gone = _deleted_gateways(
        clients, [name for name, kind in found.items() if kind == "natgateway"]
    )
    yield from (
        f"{kind} {name}"
        for name, kind in sorted(found.items())
        if name not in gone and (kind not in with_machines or name in running)
    )


def _deleted_gateways(clients: Clients, gateways: Sequence[str]) -> set[str]:
    """Find the NAT gateways that are deleted. EC2 shows them, with their tags, for about an hour.

    Source: https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html
    """
    if not gateways:
        return set()
    wanted: list[FilterTypeDef] = [{"Name": "nat-gateway-id", "Values": list(gateways)}]
    living = {
        gateway["NatGatewayId"]
        for page in clients.ec2.get_paginator("describe_nat_gateways").paginate(Filters=wanted)
        for gateway in page["NatGateways"]
        if gateway["State"] != "deleted"
    }
    return set(gateways) - living


def _tagged(clients: Clients, key: str, environment: str) -> Iterator[str]:
    pages = (
        clients.client("resourcegroupstaggingapi")
        .get_paginator("get_resources")
        .paginate(TagFilters=[{"Key": key, "Values": [environment]}])
    )
    for page in pages:
        yield from (item["ResourceARN"] for item in page["ResourceTagMappingList"])


def _is_kept(arn: str, settings: DeploymentSettings, kept: set[Concern]) -> bool:
    """Tell whether a tagged resource belongs to a stack that was kept.

    Resources of EC2 count as kept here, because :func:`_tagged_in_ec2` asks EC2 about them.
    """
    service = arn.split(":")[2]
    if any(f":stack/{stack_name(settings.environment, concern)}/" in arn for concern in kept):
        return True
    return (
        service == "ec2"
        or (service == "iam" and Concern.IDENTITY in kept)
        or (service == "s3" and Concern.STORAGE in kept)
    )


def _is_gone(clients: Clients, arn: str) -> bool:
    """Look up a resource that the tagging service names, because its answer may be old."""
    service, name = arn.split(":")[2], arn.split(":", 5)[5]
    looks: dict[str, Callable[[], Any]] = {
        "lambda": lambda: clients.lambda_.get_function(FunctionName=arn),
        "sqs": lambda: clients.sqs.get_queue_url(QueueName=name),
        "sns": lambda: clients.sns.get_topic_attributes(TopicArn=arn),
        "s3": lambda: clients.s3.head_bucket(Bucket=name),
    }
    if service == "cloudformation":
        return find_stack(clients, arn) is None
    try:
        looks.get(service, lambda: None)()
    except ClientError as error:
        return code_of(error) in MISSING
    return False
