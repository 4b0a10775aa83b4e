"""Find what an account already has under the names of an environment."""

from collections.abc import Iterator

from botocore.exceptions import ClientError

from infra_bootstrap.clients import Clients, is_missing
from infra_bootstrap.reaper.reaper import find_machines
from infra_bootstrap.stacks.concerns import Concern, bucket_name, role_name, stack_name
from infra_bootstrap.stacks.deployed import find_stack
from infra_bootstrap.stacks.template_files import template


def find_traces(clients: Clients, environment: str) -> Iterator[str]:
    """Name the stacks, the bucket, the roles and the machines of an environment that exist.

    A new environment has none. Roles are found by name, because they are global, so they also show
    an environment in another region. A bucket that the caller may not look at counts as existing.

    :raises ClientError: if the caller may not look at stacks, roles or machines. Then nothing is
        known, so nothing should be made.
    """
    for concern in Concern:
        if find_stack(clients, stack_name(environment, concern)):
            yield f"stack {stack_name(environment, concern)}"
    bucket = bucket_name(environment, clients.account_id, clients.region)
    if _bucket_exists(clients, bucket):
        yield f"bucket {bucket}"
    for role in roles():
        if _role_exists(clients, role_name(environment, role)):
            yield f"role {role_name(environment, role)}"
    yield from (
        f"machine {machine['InstanceId']}" for machine in find_machines(clients.ec2, environment)
    )


def roles() -> list[str]:
    """List the roles of an environment, as the template names them.

    >>> roles()[:5]
    ['deployer', 'evaluator', 'flow-logs', 'judge', 'launcher']
    """
    return sorted(
        str(resource["Properties"]["RoleName"]["Fn::Sub"]).removeprefix(
            "nightshift-${Environment}-"
        )
        for resource in template(Concern.IDENTITY)["Resources"].values()
        if resource["Type"] == "AWS::IAM::Role"
    )


def _bucket_exists(clients: Clients, bucket: str) -> bool:
    try:
        clients.s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        return not is_missing(error)
    return True


def _role_exists(clients: Clients, role: str) -> bool:
    try:
        clients.iam.get_role(RoleName=role)
    except clients.iam.exceptions.NoSuchEntityException:
        return False
    return True
