"""The errors of `rl_airflow`.

RlAirflowError
├── NoExperimentsFolderError     the folder of the experiment files is missing, or there are two
├── BrokenExperimentsError       experiment files are wrong, so their DAGs refuse new runs
├── SlowFileError                reading an experiment file takes too long
├── EnvironmentNotReadyError     the AWS environment was not bootstrapped, or is incomplete
├── SessionNotOpenedError        AWS was not asked, or gave no answer, when a session was opened
├── EvaluationFailedError        the evaluator answered with an error, or did not answer
│   ├── PolicyNotEvaluatedError  one policy cannot be played; others may be
│   └── OtherVersionError        the evaluator's function is of another version than this Airflow
├── EvaluatorBusyError           AWS was too busy for the evaluator for as long as it is waited for
├── MachinesNotCheckedError      the reaper could not look at the machines, or not end them
└── InstancesLeftError           machines of the run are still there

AirflowFailException
└── RunIsRedError                a run did not do what was required
"""

from airflow.sdk.exceptions import AirflowFailException

from rl_lifecycle.errors import DEPLOY


class RlAirflowError(Exception):
    """The base of this package's errors. The message is one line that ends with what to do."""


class NoExperimentsFolderError(RlAirflowError):
    """The folder of the experiment files is missing, or two folders could be it.

    :param setting: the name of the setting that names the folder.
    """

    def __init__(self, problem: str, setting: str) -> None:
        self.problem, self.setting = problem, setting
        super().__init__(
            f"experiments: {problem}, or name the folder in Airflow's setting {setting}"
        )


class BrokenExperimentsError(RlAirflowError):
    """Experiment files are wrong, so their DAGs refuse new runs.

    :param problems: one line for each file.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        super().__init__("\n".join((f"wrong experiment files: {len(problems)}", *problems)))


class SlowFileError(RlAirflowError):
    """Reading an experiment file takes more CPU time than a file may use."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        super().__init__(f"takes more than {limit_s:g} s of CPU time to read; make it simpler")


class EnvironmentNotReadyError(RlAirflowError, AirflowFailException):
    """The AWS environment was not bootstrapped, or lacks a resource.

    It is also an `AirflowFailException`: a task does not retry, because a person must act first.
    """

    def __init__(self, environment: str, problem: str) -> None:
        self.environment, self.problem = environment, problem
        super().__init__(
            f"environment {environment!r}: {problem}; trigger the DAG bootstrap_infrastructure"
        )


class SessionNotOpenedError(RlAirflowError):
    """AWS gave no answer when a role's session was opened, or there was nothing to ask it with."""

    def __init__(self, environment: str, role: str, problem: str) -> None:
        self.environment, self.role, self.problem = environment, role, problem
        super().__init__(
            f"environment {environment!r}: the {role}'s session could not be opened ({problem}); "
            "check the credentials and the region of this process, and its way to AWS STS"
        )


class EvaluationFailedError(RlAirflowError):
    """The evaluator answered with an error, or did not answer."""

    def __init__(self, what: str, problem: str) -> None:
        self.what, self.problem = what, problem
        super().__init__(f"{what}: {problem}")


class PolicyNotEvaluatedError(EvaluationFailedError):
    """The evaluator cannot play one policy.

    :param name: the name of the policy's evaluation.
    """

    def __init__(self, name: str, error: EvaluationFailedError) -> None:
        self.name = name
        super().__init__(error.what, error.problem)


class OtherVersionError(EvaluationFailedError):
    """The evaluator's function has another version than this Airflow and refused the request."""

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(
            what,
            f"the evaluator's function is of another version than this Airflow ({problem}): "
            f"{DEPLOY}",
        )


class EvaluatorBusyError(RlAirflowError):
    """AWS was too busy for the evaluator for as long as it is waited for.

    It says nothing about any policy, so it is no :class:`EvaluationFailedError`.
    """

    def __init__(self, what: str, problem: str) -> None:
        self.what, self.problem = what, problem
        super().__init__(
            f"{what}: AWS is too busy ({problem}); a retry or a clear of this task goes on from "
            "what is evaluated"
        )


class MachinesNotCheckedError(RlAirflowError):
    """The reaper could not look at the machines, or could not end them: AWS is away or refuses."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(
            f"overdue machines may still run, because AWS gave an error: {problem}; this task is "
            "tried again, and so is the next run; if it goes on, look at the machines in the EC2 "
            "console"
        )


class InstancesLeftError(RlAirflowError):
    """Machines of the run are still there after their termination."""

    def __init__(self, instance_ids: tuple[str, ...]) -> None:
        self.instance_ids = instance_ids
        super().__init__(
            f"instances left: {len(instance_ids)} ({', '.join(instance_ids)}); "
            "clear this task, or terminate them in the EC2 console"
        )


class RunIsRedError(AirflowFailException):
    """A run did not do what was required. Airflow does not repeat its task.

    :param notice: the event of the notice that people get; None: no notice.
    """

    def __init__(self, message: str, notice: str | None) -> None:
        self.notice = notice
        super().__init__(message)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if the message is empty.

    >>> first_line(ValueError("no\\nmore")), first_line(TimeoutError())
    ('no', 'TimeoutError')
    """
    return next(iter(str(error).splitlines()), "") or type(error).__name__
