"""Everything that `rl_lifecycle` raises on purpose.

LifecycleError
├── InvalidExperimentError      an experiment file, or a frozen spec, says something that is not allowed
├── ForbiddenWrapperError       a wrapper comes from a package whose wrappers are not allowed
├── InvalidRecordError          a stored JSON is not of the form that the contract gives it
│   └── NewerRecordError        a newer version of Nightshift wrote it: this one must be upgraded
├── MissingObjectError          a key that must exist does not
├── PreconditionFailedError     a conditional write lost: somebody else wrote the key
├── StoreUnavailableError       the store did not answer; nothing is known about the write
├── OverlappingSeedsError       two evaluations would share episode seeds
├── BudgetExceededError         a machine would cost more than what is left of the run's budget
├── NoPlaceError                as many machines of the run are at work as may be at the same time
├── LaunchRefusedError          a launch that cannot work is refused before it is asked for
├── CorruptArtifactError        bytes do not have the digest that was recorded for them
└── ChangedPiecesError          bytes in memory changed while they were being stored
"""

from collections.abc import Sequence


class LifecycleError(Exception):
    """The base of all errors of this package; its message is one line for a person."""


class InvalidExperimentError(LifecycleError):
    """An experiment says something that is not allowed.

    :param source: the file (or object) that says it.
    :param key: dotted path of the offending key, empty when the whole document is wrong.
    :param problem: what is wrong and what is allowed.
    """

    def __init__(self, source: str, key: str, problem: str) -> None:
        self.source, self.key, self.problem = source, key, problem
        where = f"{source}: {key}" if key else source
        super().__init__(f"{where}: {problem}")


class ForbiddenWrapperError(LifecycleError):
    """A wrapper comes from a package whose wrappers are not allowed here."""

    def __init__(self, name: str, allowed: Sequence[str]) -> None:
        self.name, self.allowed = name, tuple(allowed)
        super().__init__(f"{name} is not allowed; it must come from {', '.join(allowed)}")


class InvalidRecordError(LifecycleError):
    """A stored JSON is not of the form that the contract gives it."""

    def __init__(self, where: str, problem: str) -> None:
        self.where, self.problem = where, problem
        super().__init__(f"{where}: {problem}")


#: What to do when two parts of Nightshift are of different versions.
DEPLOY = (
    "run `python -m infra_bootstrap deploy`, or trigger the DAG bootstrap_infrastructure, and use "
    "the same version in Airflow"
)


class NewerRecordError(InvalidRecordError):
    """A newer version of Nightshift wrote the JSON: it has a key, or a `schema_version`, that this
    one does not know.
    """

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(
            where, f"{problem}: a newer version of Nightshift wrote this, so upgrade: {DEPLOY}"
        )
        self.problem = problem


class MissingObjectError(LifecycleError):
    """A key that must exist does not."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        super().__init__(f"{uri} does not exist")


class PreconditionFailedError(LifecycleError):
    """A conditional write lost: the key exists already, or is no longer what the writer had
    read.
    """

    def __init__(self, uri: str, condition: str) -> None:
        self.uri, self.condition = uri, condition
        super().__init__(f"{uri} was written by somebody else ({condition} failed)")


class StoreUnavailableError(LifecycleError):
    """The store did not answer; whether a write took effect is unknown. Retry it."""

    def __init__(self, uri: str, problem: str) -> None:
        self.uri, self.problem = uri, problem
        super().__init__(f"{uri}: {problem}")


class OverlappingSeedsError(LifecycleError):
    """Two evaluations would share episode seeds, so the later one would be no fresh evidence."""

    def __init__(self, first: str, second: str) -> None:
        self.first, self.second = first, second
        super().__init__(
            f"episode seeds of {first} overlap with those of {second}: trigger again, another run "
            "draws others"
        )


class CorruptArtifactError(LifecycleError):
    """Bytes do not have the SHA-256 that was recorded for them."""

    def __init__(self, uri: str, expected: str, actual: str) -> None:
        self.uri, self.expected, self.actual = uri, expected, actual
        super().__init__(
            f"{uri} has SHA-256 {actual[:12]}…, but {expected[:12]}… was recorded: do not use it"
        )


class ChangedPiecesError(LifecycleError):
    """Bytes in memory are no longer what was to be stored: nothing may name what was written of
    them.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        super().__init__(
            f"{uri} changed in memory while it was being stored, so it does not count: start "
            "again from the last checkpoint"
        )


class BudgetExceededError(LifecycleError):
    """A machine may cost more than what is left of the run's budget.

    :param needed_usd: what would have to be reserved.
    :param left_usd: what is not reserved or spent yet.
    """

    def __init__(self, needed_usd: float, left_usd: float, budget_usd: float) -> None:
        self.needed_usd, self.left_usd, self.budget_usd = needed_usd, left_usd, budget_usd
        super().__init__(
            f"the next machine may cost up to USD {needed_usd:.4g}, but USD {left_usd:.4g} are "
            "left of "
            f"compute.budget_usd {budget_usd:g}; raise the budget, or lower compute.max_hours or "
            "trials"
        )


class NoPlaceError(LifecycleError):
    """As many machines of the run are at work as may be at the same time: wait until one has
    ended.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        super().__init__(
            f"{most} machines of this run are at work (compute.max_parallel {most}); waiting for "
            "one to end"
        )


class LaunchRefusedError(LifecycleError):
    """A launch that cannot work is refused before it is asked for; the message says what to set."""
