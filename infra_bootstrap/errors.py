"""Everything that `infra_bootstrap` raises on purpose.

BootstrapError
├── BadInputError             an option, a parameter or a name is not allowed
├── PreflightFailedError      the account is not ready for what would be made; nothing was made
├── BuildFailedError          an artifact could not be built
├── AccessRefusedError        AWS refused a call, and names what is missing
├── StackFailedError          a stack could not be made, changed or deleted
├── StackBusyError            somebody else is working on the stack
├── IdentityChangedError      roles or policies differ from the template, which only an administrator may mend
├── NotDeployedError          a stack that must exist does not
├── NotConfirmedError         a deletion was asked for without the environment's exact name
└── InstancesRunningError     a deletion was asked for while machines run
"""

from collections.abc import Sequence


class BootstrapError(Exception):
    """The base of all errors of this package; its message is one line for a person, and ends with
    what to do.
    """


class BadInputError(BootstrapError):
    """An option, a parameter or a name is not allowed."""


class PreflightFailedError(BootstrapError):
    """The account is not ready for what would be made. :param problems: each with its fix."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"nothing was made: {'; '.join(problems)}")


class BuildFailedError(BootstrapError):
    """An artifact could not be built.
    :param artifact: which.
    :param problem: what happened, and what to do.
    """

    def __init__(self, artifact: str, problem: str) -> None:
        self.artifact, self.problem = artifact, problem
        super().__init__(f"{artifact}: {problem}")


class AccessRefusedError(BootstrapError):
    """AWS refused a call. :param action: what was called. :param message: AWS's words."""

    def __init__(self, action: str, message: str) -> None:
        self.action, self.message = action, message
        super().__init__(
            f"{action}: {message}; run `python -m infra_bootstrap preflight` to see what is missing"
        )


class StackFailedError(BootstrapError):
    """A stack could not be made, changed or deleted.

    :param resource: logical id of what failed first; empty when the stack itself was refused.
    :param reason: AWS's words.
    """

    def __init__(
        self, stack_name: str, status: str, resource: str, reason: str, command: str
    ) -> None:
        self.stack_name, self.status, self.resource, self.reason = (
            stack_name,
            status,
            resource,
            reason,
        )
        what = f"{resource}: " if resource else ""
        super().__init__(
            f"{stack_name} ended in {status}. {what}{reason} Mend that, then run `{command}` "
            "again: it goes on "
            "from here"
        )


class StackBusyError(BootstrapError):
    """Somebody else is working on the stack."""

    def __init__(self, stack_name: str, status: str) -> None:
        self.stack_name, self.status = stack_name, status
        super().__init__(
            f"{stack_name} is in {status}: another deployment is at work; try again when it has "
            "ended"
        )


class IdentityChangedError(BootstrapError):
    """Roles or policies differ from what is deployed, which only an administrator may change."""

    def __init__(self, stack_name: str, differences: Sequence[str], command: str) -> None:
        self.stack_name, self.differences = stack_name, tuple(differences)
        super().__init__(
            f"{stack_name} must be changed ({', '.join(differences)}), which Airflow's role may "
            "not do: "
            f"let an administrator run `{command}`"
        )


class NotDeployedError(BootstrapError):
    """A stack that must exist does not."""

    def __init__(self, stack_name: str, environment: str) -> None:
        self.stack_name, self.environment = stack_name, environment
        super().__init__(
            f"there is no stack {stack_name}: run `python -m infra_bootstrap deploy --environment "
            f"{environment}`, "
            "or trigger the DAG bootstrap_infrastructure"
        )


class NotConfirmedError(BootstrapError):
    """A deletion was asked for without the environment's exact name."""

    def __init__(self, environment: str) -> None:
        self.environment = environment
        super().__init__(
            f"nothing was deleted: say `--confirm {environment}` to delete the environment "
            f"{environment}"
        )


class InstancesRunningError(BootstrapError):
    """A deletion was asked for while machines run."""

    def __init__(self, instance_ids: Sequence[str]) -> None:
        self.instance_ids = tuple(instance_ids)
        super().__init__(
            f"nothing was deleted: {len(instance_ids)} machines run "
            f"({', '.join(instance_ids[:5])}); end their runs "
            "first, or terminate them"
        )
