"""How a process of a trial reports its end: in its last heartbeat and in its log."""

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, NoReturn

from rl_lifecycle.errors import LifecycleError
from rl_lifecycle.storage.object_store import ObjectStore
from rl_lifecycle.trials.heartbeats import Heartbeat, TrainerCause, TrainerState
from rl_trainer.errors import InterruptedTrainingError, TrainerError, as_trainer_error
from rl_trainer.reporting.heartbeat import HeartbeatThread
from rl_trainer.reporting.journal import Journal


class EndReporter(ABC):
    """What the heartbeats of a learner and of a machine that only collects have in common."""

    #: The last message of a process that did not stop in time.
    late: ClassVar[str]

    def __init__(self, beats: HeartbeatThread, attempt: int, total_timesteps: int) -> None:
        self.beats, self.attempt, self.total_timesteps = beats, attempt, total_timesteps

    @property
    @abstractmethod
    def steps_so_far(self) -> int:
        """The step for the log's last line."""

    @abstractmethod
    def _heartbeat(
        self, state: TrainerState, cause: TrainerCause | None = None, message: str = ""
    ) -> Heartbeat:
        """Make a heartbeat of what is known now."""

    def close(
        self, state: TrainerState, cause: TrainerCause | None = None, message: str = ""
    ) -> None:
        """Send the last heartbeat, unless the key belongs to a later attempt."""
        if state is TrainerState.FENCED:
            self.beats.fenced.set()
        self.beats.close(self._heartbeat(state, cause, message[:500]))

    def give_up(self) -> NoReturn:
        """End the process while it still works. Committed checkpoints stay valid."""
        self.close(TrainerState.INTERRUPTED, message=self.late)
        os._exit(InterruptedTrainingError.exit_code)


@contextlib.contextmanager
def reported(
    reporter: EndReporter, journal: Journal, store: ObjectStore, finished: str
) -> Iterator[None]:
    """Report how the process ended, in the last heartbeat and in the log.

    :param finished: the log's last line after a good end.
    """
    try:
        yield
    except BaseException as error:  # every end is reported, then the error is raised again
        failure = as_trainer_error(error)
        journal.event(failure.state.value, str(failure))
        reporter.close(failure.state, failure.cause, str(failure))
        with contextlib.suppress(TrainerError, LifecycleError):
            journal.write(store)
        if failure is error:
            raise
        raise failure from error
    journal.event("finished", finished, step=reporter.steps_so_far)
    with contextlib.suppress(TrainerError, LifecycleError):
        journal.write(store)
    reporter.close(TrainerState.FINISHED)
