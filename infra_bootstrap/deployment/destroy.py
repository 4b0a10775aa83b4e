"""Delete an environment, and prove that nothing of it is left."""

from collections.abc import Callable, Iterator

from infra_bootstrap.clients import Clients
from infra_bootstrap.deployment.bucket import delete_bucket as delete_whole_bucket
from infra_bootstrap.deployment.deletion import await_deletion, delete_stack, service_role
from infra_bootstrap.deployment.experiment_roles import delete_experiments
from infra_bootstrap.deployment.leftovers import SETTLE_S, prove_gone
from infra_bootstrap.deployment.recovery import is_airflow
from infra_bootstrap.errors import (
    AccessRefusedError,
    InstancesRunningError,
    NotConfirmedError,
    StackBusyError,
)
from infra_bootstrap.reaper.reaper import find_machines
from infra_bootstrap.stacks.concerns import WAVES, Concern, bucket_name, stack_name
from infra_bootstrap.stacks.deployed import DeployedStack, find_stack
from infra_bootstrap.stacks.settings import DeploymentSettings
from rl_lifecycle.records.record import Record

Say = Callable[[str], None]
#: The reason why two stacks are kept, as it is printed.
WHY_KEPT = (
    "storage holds what was trained, and identity holds the role that can delete storage; an "
    "administrator deletes both with `destroy --delete-bucket`"
)


class Destruction(Record):
    """What was deleted, and what was kept on purpose.

    :param leftovers: what still exists although it should not. It must be empty.
    :param why_kept: the reason, for a person. It is empty if nothing was kept.
    :param unknown: what the caller may not look at, so that nothing is known about it.
    """

    deleted: tuple[str, ...]
    kept: tuple[str, ...]
    leftovers: tuple[str, ...]
    why_kept: str = ""
    unknown: tuple[str, ...] = ()


def destroy(
    clients: Clients,
    settings: DeploymentSettings,
    confirm: str | None,
    say: Say,
    *,
    delete_bucket: bool = False,
    settle_s: float = SETTLE_S,
) -> Destruction:
    """Delete the stacks of an environment, in the reverse order of `deploy`.

    The storage stack and its bucket are kept by default, because they hold what was trained, judged
    and promoted. Identity is kept as long as storage is, because CloudFormation deletes the storage
    stack with identity's deployer role. Airflow's role deletes the stacks that cost money, and
    leaves these two to an administrator.

    The deletion can be interrupted anywhere. The same command continues it.

    :param confirm: must be the environment's exact name.
    :param delete_bucket: whether to delete storage with its bucket, and identity, too. A bucket
        that has lost its stack is deleted as well.
    :param settle_s: how long the proof looks again for what is still found, seconds.
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
    proof = prove_gone(clients, settings, kept, settle_s)
    _explain(clients, settings, proof.left, proof.unknown, say)
    return Destruction(
        deleted=deleted,
        kept=names,
        leftovers=proof.left,
        why_kept=WHY_KEPT if names else "",
        unknown=proof.unknown,
    )


def command_of(settings: DeploymentSettings, delete_bucket: bool) -> str:
    """Return the command line that continues a deletion."""
    name = settings.environment
    words = f"python -m infra_bootstrap destroy --environment {name} --confirm {name}"
    return f"{words} --delete-bucket" if delete_bucket else words


def _kept(clients: Clients, settings: DeploymentSettings, delete_bucket: bool) -> set[Concern]:
    """Choose the stacks that stay. A bucket without its stack is not kept: it is left over."""
    environment = settings.environment
    identity = find_stack(clients, stack_name(environment, Concern.IDENTITY))
    stored = find_stack(clients, stack_name(environment, Concern.STORAGE)) is not None
    if identity is not None and is_airflow(clients, identity.parameters):
        if delete_bucket:
            raise AccessRefusedError(
                "deleting the bucket",
                "Airflow's role may not; let an administrator run "
                f"`{command_of(settings, delete_bucket)}`",
            )
        return {Concern.IDENTITY, Concern.STORAGE} if stored else {Concern.IDENTITY}
    return {Concern.IDENTITY, Concern.STORAGE} if stored and not delete_bucket else set()


def _explain(
    clients: Clients,
    settings: DeploymentSettings,
    left: tuple[str, ...],
    unknown: tuple[str, ...],
    say: Say,
) -> None:
    bucket = bucket_name(settings.environment, clients.account_id, clients.region)
    if f"bucket {bucket}" in left:
        say(
            f"{bucket} has no stack: delete it with everything in it with "
            f"`{command_of(settings, delete_bucket=True)}`, or let an administrator run "
            f"`{settings.command}`, which takes it over"
        )
    if unknown:
        say(f"not looked at, because {clients.identity['Arn']} may not: {', '.join(unknown)}")


def _delete(
    clients: Clients,
    settings: DeploymentSettings,
    kept: set[Concern],
    say: Say,
    *,
    delete_bucket: bool,
) -> Iterator[str]:
    command = command_of(settings, delete_bucket)
    for wave in reversed(WAVES):
        if Concern.IDENTITY in wave and Concern.IDENTITY not in kept:
            for name in delete_experiments(clients, settings.environment, command):
                say(f"{name}: deleted")
                yield name
        begun = [
            started
            for concern in wave
            if concern not in kept and (started := _begin(clients, settings, concern))
        ]
        for concern, stack in begun:
            role = service_role(clients, settings, concern)
            await_deletion(clients, stack.stack_id, command, role)
            say(f"{stack.name}: deleted")
            yield stack.name
        if delete_bucket and Concern.STORAGE in wave:
            bucket = bucket_name(settings.environment, clients.account_id, clients.region)
            if delete_whole_bucket(clients, bucket, command):
                say(f"{bucket}: deleted, with everything in it")
                yield bucket


def _begin(
    clients: Clients, settings: DeploymentSettings, concern: Concern
) -> tuple[Concern, DeployedStack] | None:
    """Begin to delete a stack. :return: None if there is no stack.

    :raises StackBusyError: if it is being updated. CloudFormation would refuse the deletion.
    """
    stack = find_stack(clients, stack_name(settings.environment, concern))
    if stack is None:
        return None
    if stack.is_busy and stack.status.startswith("UPDATE"):
        raise StackBusyError(stack.name, stack.status)
    if stack.protected:
        clients.cloudformation.update_termination_protection(
            StackName=stack.name, EnableTerminationProtection=False
        )
    delete_stack(clients, settings, concern)
    return concern, stack
