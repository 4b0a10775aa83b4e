"""The errors of `rl_lifecycle`.

LifecycleError
├── InvalidExperimentError      an experiment file or a frozen spec has a forbidden value
├── ForbiddenWrapperError       a wrapper comes from a package whose wrappers are not allowed
├── InvalidRecordError          a stored JSON does not have the form of its record
│   ├── NewerRecordError        a newer version of Nightshift wrote it: upgrade this one
│   └── LostPointerError        the pointer to a champion is gone, although there is a history
├── MissingObjectError          a key that must exist is missing
├── PreconditionFailedError     another writer changed the key before a conditional write
├── StoreUnavailableError       the store did not answer; a write may have taken effect
│   └── StoreRefusedError       the store refused; waiting does not change its answer
├── OverlappingSeedsError       two evaluations would share episode seeds
├── BudgetExceededError         a machine would cost more than what is left of the run's budget
│   └── EvaluationBudgetError   the evaluations would
├── NoPlaceError                the run has as many machines at work as it may have
├── LaunchRefusedError          a launch cannot work, so it is not requested
├── CorruptArtifactError        bytes do not have the digest that was recorded for them
└── ChangedPiecesError          bytes in memory changed while they were being stored
"""

import re
from collections.abc import Sequence


class LifecycleError(Exception):
    """The base of all errors of this package. Its message is one line for a person."""


class InvalidExperimentError(LifecycleError):
    """An experiment has a value that is not allowed.

    :param source: the file or object that holds the value.
    :param key: dotted path of the key; empty when the whole document is wrong.
    :param problem: what is wrong, and what is allowed.
    """

    def __init__(self, source: str, key: str, problem: str) -> None:
        self.source, self.key, self.problem = source, key, problem
        where = f"{source}: {key}" if key else source
        super().__init__(" ".join(f"{where}: {problem}".split()))


class ForbiddenWrapperError(LifecycleError):
    """A wrapper comes from a package whose wrappers are not allowed here."""

    def __init__(self, name: str, allowed: Sequence[str]) -> None:
        self.name, self.allowed = name, tuple(allowed)
        super().__init__(f"{name} is not allowed; it must come from {', '.join(allowed)}")


class InvalidRecordError(LifecycleError):
    """A stored JSON does not have the form of its record."""

    def __init__(self, where: str, problem: str) -> None:
        self.where, self.problem = where, problem
        super().__init__(f"{where}: {problem}")


#: What to do when two parts of Nightshift are of different versions.
DEPLOY = (
    "run `python -m infra_bootstrap deploy`, or trigger the DAG bootstrap_infrastructure, and use "
    "the same version in Airflow"
)


class NewerRecordError(InvalidRecordError):
    """A newer version of Nightshift wrote the JSON.

    The JSON has a key or a `schema_version` that this version does not know.
    """

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(
            where, f"{problem}: a newer version of Nightshift wrote this, so upgrade: {DEPLOY}"
        )
        self.problem = problem


class LostPointerError(InvalidRecordError):
    """An experiment has a history or a complete version, but the pointer to its champion is gone.

    It is not treated as "no champion yet". Otherwise the next candidate would replace the champion
    without being compared with it.

    :param evidence: what is there without a history, for example `version 2 of run n2`.
    """

    def __init__(
        self, where: str, experiment: str, store_uri: str, *, evidence: str | None = None
    ) -> None:
        bucket = re.match(r"s3://nightshift-(.+?)-\d{12}-", store_uri)
        if store_uri.startswith("s3://"):
            environment = bucket[1] if bucket else "ENVIRONMENT"
            command = f"python -m infra_bootstrap restore-champion --environment {environment}"
        else:
            command = f"python -m rl_lifecycle restore-champion --store {store_uri}"
        command = f"`{command} --experiment {experiment}`"
        super().__init__(
            where,
            f"is gone, although the history names a version in service: restore it with {command}"
            if evidence is None
            else f"and the history are gone, although {evidence} is complete: restore the keys "
            f"under registry/{experiment}/history/ from their older versions or a backup, then "
            f"run {command}; if it was never in service, because its promotion was cut off, clear "
            "the task `promote` (or `import_policy`) of its run instead",
        )


class MissingObjectError(LifecycleError):
    """A key that must exist is missing."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        super().__init__(f"{uri} does not exist")


class PreconditionFailedError(LifecycleError):
    """Another writer created or changed the key before a conditional write."""

    def __init__(self, uri: str, condition: str) -> None:
        self.uri, self.condition = uri, condition
        super().__init__(f"{uri} was changed by another writer ({condition} failed)")


class StoreUnavailableError(LifecycleError):
    """The store did not answer. A write may have taken effect or not, so retry it."""

    def __init__(self, uri: str, problem: str) -> None:
        self.uri, self.problem = uri, problem
        super().__init__(f"{uri}: {problem}")


class StoreRefusedError(StoreUnavailableError):
    """The store refused a request, and waiting does not change its answer.

    It has a type of its own, because only the type of an error leaves a Lambda function.
    """


class OverlappingSeedsError(LifecycleError):
    """Two evaluations share episode seeds, so the later one is no independent evidence."""

    def __init__(self, first: str, second: str) -> None:
        self.first, self.second = first, second
        super().__init__(
            f"episode seeds of {first} overlap with those of {second}: trigger the "
            "DAG again, because another run draws other seeds"
        )


class CorruptArtifactError(LifecycleError):
    """Bytes do not have the SHA-256 that was recorded for them."""

    def __init__(self, uri: str, expected: str, actual: str) -> None:
        self.uri, self.expected, self.actual = uri, expected, actual
        super().__init__(
            f"{uri} has SHA-256 {actual[:12]}…, but {expected[:12]}… was recorded: do not use it"
        )


class ChangedPiecesError(LifecycleError):
    """Bytes in memory changed while they were being stored. Do not use what was written."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        super().__init__(
            f"{uri} changed in memory while it was being stored, so it does not count: start "
            "again from the last checkpoint"
        )


class BudgetExceededError(LifecycleError):
    """A machine may cost more than what is left of the run's budget.

    :param needed_usd: the amount to reserve.
    :param left_usd: the amount that is neither reserved nor spent.
    """

    what = "the next machine"
    fix = "lower compute.max_hours or trials"

    def __init__(self, needed_usd: float, left_usd: float, budget_usd: float) -> None:
        self.needed_usd, self.left_usd, self.budget_usd = needed_usd, left_usd, budget_usd
        super().__init__(
            f"{self.what} may cost up to USD {needed_usd:.4g}, but USD {left_usd:.4g} are left of "
            f"compute.budget_usd {budget_usd:g}; raise the budget, or {self.fix}"
        )


class EvaluationBudgetError(BudgetExceededError):
    """The evaluations may cost more than what the machines leave of the run's budget."""

    what = "the evaluations of this run"
    fix = (
        "lower evaluation.max_pairs, evaluation.selection_episodes or trials, or raise "
        "checkpoint_every"
    )


class NoPlaceError(LifecycleError):
    """The run has as many machines at work as it may have. Wait until one of them has ended."""

    def __init__(self, most: int) -> None:
        self.most = most
        super().__init__(
            f"{most} machines of this run are at work (compute.max_parallel {most}); waiting for "
            "one to end"
        )


class LaunchRefusedError(LifecycleError):
    """A launch cannot work, so it is not requested. The message says what to change."""
