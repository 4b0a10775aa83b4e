"""The errors that the trainer raises on purpose, and the exit code of each error.

TrainerError                        70
├── BadInputError                    2   a spec, file or argument has a value that is not allowed
├── OutOfMemoryError                71   the machine has too little memory for this training
├── EnvironmentFailedError          72   the environment raised an error
│   └── OneProcessNeededError           environments depend on their process; never leaves a trial
├── DiskFullError                   73   the store's directory or the machine's disk is full
├── StoreLostError                  74   the store did not answer for longer than the trainer waits
├── InterruptedTrainingError        75   SIGTERM or a spot notice; finished segments are committed
│   └── LostMemberError                 another machine of the trial is gone; never leaves a trial
├── FencedError                     76   a later attempt has taken over the trial
├── OtherHardwareError              77   the checkpoint's numeric class differs; the spec says: wait
└── DivergedError                   78   a number in the model is not finite, or is far too large

An unexpected error also ends the process with 70. The exit codes 70 to 78 follow sysexits.h where
its meaning fits.
"""

import errno
from typing import ClassVar

from rl_lifecycle.errors import LifecycleError
from rl_lifecycle.trials.heartbeats import TrainerCause, TrainerState

#: What code of an environment may raise. `sys.exit()` there must not end the trainer.
FOREIGN_ERRORS = (Exception, SystemExit)


class TrainerError(Exception):
    """Base class of all errors of this package. The message is one line for a person."""

    exit_code: ClassVar[int] = 70
    state: ClassVar[TrainerState] = TrainerState.FAILED
    cause: ClassVar[TrainerCause | None] = TrainerCause.CODE


class BadInputError(TrainerError):
    """A value that you gave is not allowed or does not exist. Nothing was trained."""

    exit_code = 2
    cause = TrainerCause.SPEC


class OutOfMemoryError(TrainerError):
    """The machine has too little memory."""

    exit_code = 71
    cause = TrainerCause.OUT_OF_MEMORY


class EnvironmentFailedError(TrainerError):
    """The environment raised an error while it was stepped or reset."""

    exit_code = 72
    cause = TrainerCause.ENVIRONMENT


class OneProcessNeededError(EnvironmentFailedError):
    """The environments of a segment depend on their process, so one process must train it again."""


class DiskFullError(TrainerError):
    """The directory of the store cannot take more bytes, or the machine's own disk is full."""

    exit_code = 73
    cause = TrainerCause.DISK_FULL


class StoreLostError(TrainerError):
    """The store did not answer for longer than the trainer waits. The last checkpoint is good."""

    exit_code = 74
    cause = TrainerCause.STORE


class InterruptedTrainingError(TrainerError):
    """The machine is taken back, or a signal ended the process. Repeat the command to continue."""

    exit_code = 75
    state = TrainerState.INTERRUPTED
    cause = None


class LostMemberError(InterruptedTrainingError):
    """Another machine of the trial is gone, so the segment must be collected again."""


class FencedError(TrainerError):
    """A later attempt has taken over the head, so results of this attempt no longer count."""

    exit_code = 76
    state = TrainerState.FENCED
    cause = None


class OtherHardwareError(TrainerError):
    """The checkpoint has another numeric class, and the spec says to wait for such a machine."""

    exit_code = 77
    cause = TrainerCause.OTHER_HARDWARE


class DivergedError(TrainerError):
    """A value or parameter is not finite, or is far too large. The last checkpoint is good."""

    exit_code = 78
    cause = TrainerCause.DIVERGED


def as_trainer_error(error: BaseException) -> TrainerError:
    """Return a trainer error as it is. Convert any other error to the matching trainer error."""
    if isinstance(error, TrainerError):
        return error
    if (exhausted := find_exhaustion(error)) is not None:
        return exhausted
    if isinstance(error, LifecycleError):
        return BadInputError(str(error))
    return TrainerError(f"{type(error).__name__}: {error}".splitlines()[0])


def error_of(exit_code: int, message: str) -> TrainerError:
    """Return the error with an exit code. Another process of this trial has reported it.

    >>> error_of(72, "the environment raised an error in step()")
    EnvironmentFailedError('the environment raised an error in step()')
    """
    kinds = {kind.exit_code: kind for kind in TrainerError.__subclasses__()}
    return kinds.get(exit_code, TrainerError)(message)


def find_exhaustion(error: BaseException) -> TrainerError | None:
    """Recognise an error that means too little memory or a full disk, wherever it was raised.

    :return: None for any other error. The caller then decides by the code that raised it.
    """
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    if (
        isinstance(error, MemoryError)
        or "not enough memory" in str(error)
        or "out of memory" in str(error)
    ):
        return OutOfMemoryError(
            f"the machine has too little memory: {text}; choose a larger machine or a smaller "
            "buffer_size"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            f"the disk is full: {text}; give the machine a larger volume, or write less data"
        )
    return None
