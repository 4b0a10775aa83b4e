"""What can go wrong on a laptop, said in one line.

LaptopError
├── StepFailedError          a command that a target is made of did not succeed
└── RealCredentialsError     the environment holds keys to a real account where none may be used
"""


class LaptopError(Exception):
    """The base; its message says what happened and ends with what to do next."""


class StepFailedError(LaptopError):
    """A command that a target is made of did not succeed."""

    def __init__(self, step: str, reason: str, next_command: str) -> None:
        self.step, self.reason, self.next_command = step, reason, next_command
        super().__init__(f"{step} failed: {reason}\n  next: {next_command}")


class RealCredentialsError(LaptopError):
    """The environment holds keys to a real account where none may be used."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        super().__init__(
            f"{', '.join(names)} in the environment could reach a real account: unset it, "
            "tests use the local AWS alone\n  next: env "
            f"{' '.join(f'-u {name}' for name in names)} make test"
        )
