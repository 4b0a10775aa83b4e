"""The errors that `infra_bootstrap` raises on purpose.

BootstrapError
├── BadInputError             an option, a parameter or a name is not allowed
├── PreflightFailedError      the account is not ready; nothing was made
├── BuildFailedError          an artifact could not be built
├── AccessRefusedError        AWS refused a call; the message names what is missing
├── StackFailedError          a stack could not be made, changed or deleted
├── BucketNotEmptiedError     the bucket could not be emptied
├── StackBusyError            another deployment is changing the stack
├── IdentityChangedError      the template changes roles or policies; only an administrator may
├── NotDeployedError          a stack that must exist does not
├── RoleNotReadyError         an experiment has a stack for its role, but the role is not usable
├── NotConfirmedError         the environment's exact name did not confirm a deletion
├── InstancesRunningError     the environment cannot be deleted while machines run
├── MissingLibraryError       a command needs a library that is not installed
└── TrackingServerError       an MLflow tracking server is away, or refused a request
"""

from collections.abc import Sequence


class BootstrapError(Exception):
    """The base of all errors of this package.

    The message is one line for a person, and ends with what to do next.
    """


class BadInputError(BootstrapError):
    """An option, a parameter or a name is not allowed."""


class PreflightFailedError(BootstrapError):
    """The account is not ready, so nothing was made.

    :param problems: what is wrong, each with its fix.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"nothing was made: {'; '.join(problems)}")


class BuildFailedError(BootstrapError):
    """An artifact could not be built.

    :param artifact: what was built, such as `evaluator layer`.
    :param problem: what happened, and what to do.
    """

    def __init__(self, artifact: str, problem: str) -> None:
        self.artifact, self.problem = artifact, problem
        super().__init__(f"{artifact}: {problem}")


class AccessRefusedError(BootstrapError):
    """AWS refused a call.

    :param action: the call, such as `s3:DeleteBucket NAME`.
    :param message: AWS's message.
    """

    def __init__(self, action: str, message: str) -> None:
        self.action, self.message = action, message
        super().__init__(
            f"{action}: {message}; run `python -m infra_bootstrap preflight` to see what is missing"
        )


class StackFailedError(BootstrapError):
    """A stack could not be made, changed or deleted.

    :param resource: logical id of the resource that failed first. It is empty if AWS refused the
        stack itself.
    :param reason: AWS's message.
    :param command: the command that continues the deployment.
    :param skip: the call that continues without the resources that block. It is empty if there is
        none.
    """

    def __init__(
        self,
        stack_name: str,
        status: str,
        resource: str,
        reason: str,
        command: str,
        skip: str = "",
    ) -> None:
        self.stack_name, self.status = stack_name, status
        self.resource, self.reason = resource, reason
        self.skip = skip
        what = f"{resource}: " if resource else ""
        otherwise = f". To leave out what blocks it, run `{skip}` first" if skip else ""
        super().__init__(
            f"{stack_name} ended in {status}. {what}{reason.removesuffix('.')}. Fix that, then run "
            f"`{command}` again: it continues from here{otherwise}"
        )


class BucketNotEmptiedError(BootstrapError):
    """The bucket could not be emptied, so it could not be deleted.

    :param problem: what stopped it.
    :param command: the command that continues.
    """

    def __init__(self, bucket: str, problem: str, command: str) -> None:
        self.bucket, self.problem = bucket, problem
        super().__init__(
            f"{bucket} could not be emptied: {problem}. Nothing new can be written into it. Run "
            f"`{command}` again: it continues from here"
        )


class StackBusyError(BootstrapError):
    """Another deployment is changing the stack."""

    def __init__(self, stack_name: str, status: str) -> None:
        self.stack_name, self.status = stack_name, status
        super().__init__(
            f"{stack_name} is in {status}: another deployment is changing it; try again when that "
            "has ended"
        )


class IdentityChangedError(BootstrapError):
    """The template changes roles or policies, and the caller is not an administrator.

    :param differences: what differs between the template and the deployed stack.
    :param command: the command that an administrator must run.
    """

    def __init__(self, stack_name: str, differences: Sequence[str], command: str) -> None:
        self.stack_name, self.differences = stack_name, tuple(differences)
        super().__init__(
            f"{stack_name} must be changed ({', '.join(differences)}), and Airflow's role may not "
            f"do that: let an administrator run `{command}`"
        )


class NotDeployedError(BootstrapError):
    """A stack that must exist does not."""

    def __init__(self, stack_name: str, environment: str) -> None:
        self.stack_name, self.environment = stack_name, environment
        super().__init__(
            f"there is no stack {stack_name}: run `python -m infra_bootstrap deploy --environment "
            f"{environment}`, or trigger the DAG bootstrap_infrastructure"
        )


class RoleNotReadyError(BootstrapError):
    """An experiment has a stack for the role of its machines, but the role is not usable."""

    def __init__(self, stack_name: str, status: str, environment: str, experiment: str) -> None:
        self.stack_name, self.status = stack_name, status
        super().__init__(
            f"the stack {stack_name} is {status} and has no role for the machines of {experiment}: "
            f"run `python -m infra_bootstrap deploy --environment {environment} --experiment "
            f"{experiment}`, or delete the stack, and the machines have the common role"
        )


class NotConfirmedError(BootstrapError):
    """The environment's exact name did not confirm the deletion."""

    def __init__(self, environment: str) -> None:
        self.environment = environment
        super().__init__(
            f"nothing was deleted: add `--confirm {environment}` to delete the environment "
            f"{environment}"
        )


class InstancesRunningError(BootstrapError):
    """The environment cannot be deleted while its machines run."""

    def __init__(self, instance_ids: Sequence[str]) -> None:
        self.instance_ids = tuple(instance_ids)
        super().__init__(
            f"nothing was deleted: {len(instance_ids)} machines run "
            f"({', '.join(instance_ids[:5])}); end their runs first, or terminate the machines"
        )


class MissingLibraryError(BootstrapError):
    """A command needs a library that is not installed."""

    def __init__(self, what: str, package: str) -> None:
        self.package = package
        super().__init__(
            f"{what} needs the package {package}: run `python -m pip install {package}`"
        )


class TrackingServerError(BootstrapError):
    """An MLflow tracking server is away, or refused a request.

    :param problem: what happened, and what to do.
    """

    def __init__(self, address: str, problem: str) -> None:
        self.address, self.problem = address, problem
        super().__init__(f"the tracking server {address} {problem}")
