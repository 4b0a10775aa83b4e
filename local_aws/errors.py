"""What can go wrong on the command line.

::

    LocalAwsError                     one line for the user, exit 2
    ├── PortTakenError                the fixed port has another owner
    ├── EnvironmentMissingError       .venv-aws was not made
    ├── StateFolderError              another version's folder, or one that cannot be written
    ├── NotRunningError               a command that needs the server found none
    ├── StartFailedError              the server ended, or was not ready in time
    ├── InstanceTypesError            a table of instance types that cannot be read
    ├── RoleNotFoundError             env --as names a role that the account does not have
    └── FaultScriptError              an unknown fault, or a script that cannot be read
"""


class LocalAwsError(Exception):
    """Something that the user can mend; its text is the one line shown."""


class PortTakenError(LocalAwsError):
    """The port asked for belongs to another process."""

    def __init__(self, port: int) -> None:
        super().__init__(
            f"port {port} is taken by another process: free it, or leave out --port for a free one"
        )
        self.port = port


class EnvironmentMissingError(LocalAwsError):
    """The server's own environment does not exist."""


class StateFolderError(LocalAwsError):
    """The state folder cannot be used."""


class NotRunningError(LocalAwsError):
    """No server answers for this state folder."""


class StartFailedError(LocalAwsError):
    """The server did not become ready; the message carries the end of its log."""


class InstanceTypesError(LocalAwsError):
    """A table of instance types cannot be read."""


class RoleNotFoundError(LocalAwsError):
    """The account has no role of this name."""


class FaultScriptError(LocalAwsError):
    """A fault, or a script of faults, that cannot be understood."""
