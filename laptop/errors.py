"""The errors of this package.

LaptopError
├── StepFailedError          a command of a Makefile target failed
├── MissingProgramError      a program that is no Python package is not installed
├── StackFileError           docker-compose.yaml has what the runner cannot run
├── MissingVariableError     a variable of docker-compose.yaml has no value
└── RealCredentialsError     the environment holds keys of a real account
"""

from pathlib import Path


class LaptopError(Exception):
    """The base of these errors. The message says what happened, then what to do next."""


class StepFailedError(LaptopError):
    """A command of a Makefile target failed."""

    def __init__(self, step: str, reason: str, next_command: str) -> None:
        self.step, self.reason, self.next_command = step, reason, next_command
        super().__init__(f"{step} failed: {reason}\n  next: {next_command}")


class RealCredentialsError(LaptopError):
    """The environment holds keys of a real account, which a test must never use."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        super().__init__(
            f"{', '.join(names)} in the environment could reach a real account: unset it, because "
            "tests use only the local AWS\n  next: env "
            f"{' '.join(f'-u {name}' for name in names)} make test"
        )


class MissingProgramError(LaptopError):
    """A program that `make stack` needs is not installed."""

    def __init__(self, program: str, fix: str) -> None:
        self.program = program
        super().__init__(f"{program} is not installed\n  next: {fix}")


class MissingVariableError(LaptopError):
    """A variable that docker-compose.yaml requires has no value.

    :param advice: compose's own words, which name its file `.env`.
    :param file: the file that holds the variables here.
    """

    def __init__(self, name: str, advice: str, file: Path) -> None:
        self.name, self.file = name, file
        super().__init__(
            f"{name} is missing or empty: {advice.replace(' .env', f' {file}')}\n"
            "  next: .env.example says what belongs there; then make stack"
        )


class StackFileError(LaptopError):
    """docker-compose.yaml has something that the runner cannot run on one host."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(
            f"docker-compose.yaml: {name}: {reason}\n  next: change the file, or laptop/stack"
        )
