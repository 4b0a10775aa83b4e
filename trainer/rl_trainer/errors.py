"""Everything that the trainer raises on purpose, with the exit code that each one ends the process
with.

TrainerError                        70
├── BadInputError                    2   a spec, a file or an argument says something that is not allowed
├── OutOfMemoryError                71   the machine's memory is not enough for this training
├── EnvironmentFailedError          72   the environment raised
├── DiskFullError                   73   the store is a directory that takes no more bytes, or the machine's disk is full
├── StoreLostError                  74   the store stayed away longer than the trainer waits
├── InterruptedTrainingError        75   SIGTERM or a spot notice: what was finished is committed
├── FencedError                     76   a later attempt took the trial over; it owns everything now
├── OtherHardwareError              77   the checkpoint is of another numeric class, and the spec says to wait
└── DivergedError                   78   something in the model is not finite, or has grown beyond what learns anything

70 also ends an error that nobody foresaw. The numbers are those of sysexits.h where one fits.
"""

import errno
from typing import ClassVar

from rl_lifecycle.trials.heartbeats import TrainerCause, TrainerState


class TrainerError(Exception):
    """The base of all errors of this package; its message is one line for a person."""

    exit_code: ClassVar[int] = 70
    state: ClassVar[TrainerState] = TrainerState.FAILED
    cause: ClassVar[TrainerCause | None] = TrainerCause.CODE


class BadInputError(TrainerError):
    """What was asked for is not allowed, or does not exist. Nothing was trained."""

    exit_code = 2
    cause = TrainerCause.SPEC


class OutOfMemoryError(TrainerError):
    """The machine's memory is not enough."""

    exit_code = 71
    cause = TrainerCause.OUT_OF_MEMORY


class EnvironmentFailedError(TrainerError):
    """The environment raised while it was stepped or reset."""

    exit_code = 72
    cause = TrainerCause.ENVIRONMENT


class DiskFullError(TrainerError):
    """The store is a directory that takes no more bytes, or the machine's own disk is full."""

    exit_code = 73
    cause = TrainerCause.DISK_FULL


class StoreLostError(TrainerError):
    """The store stayed away longer than the trainer waits. The last committed checkpoint is
    good.
    """

    exit_code = 74
    cause = TrainerCause.STORE


class InterruptedTrainingError(TrainerError):
    """The machine is being taken back. Start the same command again to go on."""

    exit_code = 75
    state = TrainerState.INTERRUPTED
    cause = None


class FencedError(TrainerError):
    """A later attempt took the head over, so nothing of this one counts any more."""

    exit_code = 76
    state = TrainerState.FENCED
    cause = None


class OtherHardwareError(TrainerError):
    """The checkpoint was made on another numeric class, and the spec says to wait for a machine of
    that class.
    """

    exit_code = 77
    cause = TrainerCause.OTHER_HARDWARE


class DivergedError(TrainerError):
    """The training is no longer finite, or its values or parameters have left all bounds. The last
    committed checkpoint is good.
    """

    exit_code = 78
    cause = TrainerCause.DIVERGED


def find_exhaustion(error: BaseException) -> TrainerError | None:
    """Name an error that says that the machine has no more memory, or no more space on its disk,
    wherever it was raised.

    :return: None for any other error: then whose code raised it decides.
    """
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    if (
        isinstance(error, MemoryError)
        or "not enough memory" in str(error)
        or "out of memory" in str(error)
    ):
        return OutOfMemoryError(
            f"memory is not enough: {text}; choose a larger machine or a smaller buffer_size"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            f"the disk is full: {text}; give the machine a larger volume, or write less"
        )
    return None
