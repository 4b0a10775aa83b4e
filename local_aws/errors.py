"""The errors that the command line reports.

::

    LocalAwsError                     one line for the user, exit 2
    ├── PortTakenError                another process uses the fixed port
    ├── EnvironmentMissingError       .venv-aws does not exist
    ├── StateFolderError              another version wrote the folder, or it cannot be written
    ├── NotRunningError               the command needs a server and found none
    ├── StartFailedError              the server ended, or was not ready in time
    ├── InstanceTypesError            a table of instance types cannot be read
    └── FaultScriptError              an unknown fault, or a script that cannot be read
"""


class LocalAwsError(Exception):
    """An error that the user can fix. Its text is the one line that the command prints."""


class PortTakenError(LocalAwsError):
    """Another process uses the requested port."""

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
    """The server did not become ready. The message contains the end of its log."""


class InstanceTypesError(LocalAwsError):
    """A table of instance types cannot be read."""


class FaultScriptError(LocalAwsError):
    """A fault, or a script of faults, that the local AWS does not understand."""
