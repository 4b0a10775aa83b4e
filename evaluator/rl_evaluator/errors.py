"""Errors that `rl_evaluator` raises on purpose.

EvaluatorError
├── InvalidRequestError       an event, an argument or a stored shard breaks the contract
├── InvalidPolicyError        a policy file breaks the contract, or must not be run
├── SpaceMismatchError        the policy was trained for other spaces than the environment has
├── EnvironmentFailedError    the environment cannot be made, reset or stepped
├── InvalidWheelError         a wheel of the experiment cannot be used
├── EndlessEpisodeError       an episode did not end, and the environment has no time limit
├── EpisodeTooLongError       no episode ended within the time that the Lambda has
├── ExpiredRequestError       a presigned address was too old when the player used it
├── FunctionFailedError       the player or the judge answered with an error
└── FunctionBusyError         Lambda was too busy for the player or the judge, or did not answer
"""

from typing import Any

#: What code of an environment may raise. `sys.exit()` there must not end the player.
FOREIGN_ERRORS = (Exception, SystemExit)


class EvaluatorError(Exception):
    """The base of all errors of this package. The message is one line for a person."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Cross to another process, although the subclasses' arguments are not the message."""
        return _restored, (type(self), self.args, vars(self))


def _restored(
    kind: type[EvaluatorError], args: tuple[Any, ...], facts: dict[str, Any]
) -> EvaluatorError:
    error = kind.__new__(kind, *args)
    vars(error).update(facts)
    return error


class InvalidRequestError(EvaluatorError):
    """An event, an argument or a stored shard breaks the contract."""


class InvalidPolicyError(EvaluatorError):
    """A policy file breaks the contract, or must not be run."""

    def __init__(self, source: str, problem: str) -> None:
        self.source, self.problem = source, problem
        super().__init__(f"{source}: {problem}")


class SpaceMismatchError(EvaluatorError):
    """The policy was trained for other spaces than the environment has."""

    def __init__(self, env_id: str, which: str, policy: str, environment: str) -> None:
        self.env_id, self.which, self.policy, self.environment = env_id, which, policy, environment
        super().__init__(
            f"the policy's {which} is {policy}, but {env_id} has {environment}: "
            "evaluate it on the environment that it was trained on"
        )


class EnvironmentFailedError(EvaluatorError):
    """The environment cannot be made, reset or stepped."""

    def __init__(self, env_id: str, problem: str) -> None:
        self.env_id, self.problem = env_id, problem
        super().__init__(f"{env_id}: {problem}")


class InvalidWheelError(EvaluatorError):
    """A wheel of the experiment cannot be used."""

    def __init__(self, key: str, problem: str) -> None:
        self.key, self.problem = key, problem
        super().__init__(f"{key}: {problem}")


class EndlessEpisodeError(EvaluatorError):
    """An episode did not end, and the environment has no time limit."""

    def __init__(self, env_id: str, seed: int, steps: int) -> None:
        self.env_id, self.seed, self.steps = env_id, seed, steps
        self.problem = (
            f"it did not end within {steps:,} steps, and {env_id} has no time limit; give it one: "
            "env_kwargs: {max_episode_steps: N}"
        )
        super().__init__(f"seed {seed}: {self.problem}")


class EpisodeTooLongError(EvaluatorError):
    """No episode ended within the time that the Lambda has."""

    def __init__(self, env_id: str, seconds: float) -> None:
        self.env_id, self.seconds = env_id, seconds
        super().__init__(
            f"{env_id}: no episode ended within {seconds:.0f} s; give the environment a time limit "
            "(env_kwargs, or max_episode_steps where it is registered)"
        )


class ExpiredRequestError(EvaluatorError):
    """A presigned address was too old when the player used it."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"{key}: its address has expired; send the request again")


class FunctionFailedError(EvaluatorError):
    """The player or the judge answered with an error.

    :param problem: the function's own words. The player's may come from an experiment's code.
    """

    def __init__(self, function: str, problem: str) -> None:
        self.function, self.problem = function, problem
        super().__init__(problem)


class FunctionBusyError(EvaluatorError):
    """Lambda was too busy for the player or the judge, or did not answer."""

    def __init__(self, function: str, code: str) -> None:
        self.function, self.code = function, code
        super().__init__(
            f"{code}: Lambda is too busy for the {function} or silent; send it again later"
        )


def first_line(error: BaseException) -> str:
    """Describe an error of foreign code in one line.

    >>> first_line(ValueError("bad shape" + chr(10) + "details"))
    'ValueError: bad shape'
    """
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
