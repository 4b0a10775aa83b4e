"""The heartbeats of a machine that only collects."""

import time
from datetime import UTC, datetime

from rl_lifecycle.trials.gangs import Announcement
from rl_lifecycle.trials.heartbeats import Heartbeat, TrainerCause, TrainerState
from rl_trainer.attempts.end_reports import EndReporter
from rl_trainer.reporting.heartbeat import HeartbeatThread


class SeatReporter(EndReporter):
    """Writes heartbeats, and remembers what the machine has done.

    :param total_timesteps: of the trial.
    """

    late = "the collection did not stop in time"

    def __init__(self, beats: HeartbeatThread, attempt: int, total_timesteps: int) -> None:
        super().__init__(beats, attempt, total_timesteps)
        #: Environment steps that this process's collectors have made, and generations so far.
        self.steps = self.generations = 0
        self.announcement: Announcement | None = None
        self._began = time.monotonic()
        self._steps_before = 0

    def beat(self, state: TrainerState, message: str = "", *, at_once: bool = False) -> None:
        """Send a heartbeat.

        :param at_once: the learner waits for it.
        """
        self.beats.report(self._heartbeat(state, message=message), at_once=at_once)

    def begin(self) -> None:
        """Note that a generation begins."""
        self.generations += 1
        self._began, self._steps_before = time.monotonic(), self.steps

    @property
    def steps_so_far(self) -> int:
        """The environment steps of this process's collectors."""
        return self.steps

    def _heartbeat(
        self, state: TrainerState, cause: TrainerCause | None = None, message: str = ""
    ) -> Heartbeat:
        seconds = max(time.monotonic() - self._began, 1e-9)
        collects = state is TrainerState.TRAINING
        speed = (self.steps - self._steps_before) / seconds if collects else 0.0
        return Heartbeat(
            attempt=self.attempt,
            state=state,
            step=self.steps,
            total_timesteps=self.total_timesteps,
            steps_per_s=speed,
            at=datetime.now(UTC),
            cause=cause,
            message=message,
            numeric_class=self.announcement.numeric_class if self.announcement else "",
            announcement=self.announcement,
        )
