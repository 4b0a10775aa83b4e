"""The evidence of a trial: its attempts, its machine, its heartbeat and its progress."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from pydantic import Field

from rl_lifecycle.experiment.compute_settings import Compute
from rl_lifecycle.machines.launch_requests import hours_used
from rl_lifecycle.machines.machine_attempts import Attempt
from rl_lifecycle.records.record import Record
from rl_lifecycle.storage.layout import LEARNER_SEAT
from rl_lifecycle.trials.heartbeats import Heartbeat, TrainerState
from rl_lifecycle.trials.recoveries import first_step_of


class InstanceState(StrEnum):
    """EC2's names of the states of an instance."""

    PENDING = "pending"
    RUNNING = "running"
    SHUTTING_DOWN = "shutting-down"
    STOPPING = "stopping"
    STOPPED = "stopped"
    TERMINATED = "terminated"

    @property
    def alive(self) -> bool:
        """Whether the instance may still train, and costs money."""
        return self in (InstanceState.PENDING, InstanceState.RUNNING)


class Machine(Record):
    """An instance of ours, as EC2 describes it."""

    instance_id: str
    attempt: int
    state: InstanceState
    reason_code: str = ""
    reason: str = ""
    instance_type: str = ""
    zone: str = ""
    market: str = "on-demand"
    launched_at: datetime
    ended_at: datetime | None = None


class StepProgress(Record):
    """The newest step, and when it was seen for the first time.

    A step that does not change for too long is a stall. `blind_s` is the time in which AWS did not
    answer us since the attempt began. It does not count as silence of the machine.
    """

    attempt: int
    step: int
    since: datetime
    first_step_at: datetime | None = None
    blind_s: float = 0.0
    waiting: bool = Field(
        False,
        description="the trainer waits; the clock starts again when it goes on",
        exclude_if=lambda value: value is False,
    )


class Patience(Record):
    """How long each kind of silence is accepted."""

    boot_s: float = 900.0
    stall_s: float = 600.0
    stall_segments: float = 5.0
    waiting_s: float = Field(
        3600.0,
        description="for a trainer that waits for the store; it gives up by itself",
    )
    visible_s: float = 300.0
    attempts_without_progress: int = 3
    last_words_s: float = Field(
        20.0, description="for a machine that failed, to upload its log and to end by itself"
    )
    farewell_s: float = Field(
        40.0,
        description="the same for a machine that finished; a trainer of an earlier release may "
        "still film its policy",
    )
    idle_s: float = Field(
        600.0,
        description="for machines that only collect, while the learner has no machine",
        exclude_if=lambda value: value == 600.0,
    )


class SeatEvidence(Record):
    """What is known of one machine of a trial, with the fields of :class:`Evidence`."""

    attempts: tuple[Attempt, ...] = ()
    machine: Machine | None = None
    heartbeat: Heartbeat | None = None
    progress: StepProgress | None = None
    unreadable: str = ""
    committed_step: int = 0
    no_place: bool = False
    held: bool = False

    def shortened(self) -> Self:
        """The same without the attempts' requests, and without the answers of pools."""
        attempts = tuple(
            attempt.without_request().with_outcome(attempt.outcome.without_refusals())
            for attempt in self.attempts
        )
        return self.model_copy(update={"attempts": attempts})


class Evidence(Record):
    """Everything that is known of a trial at one moment.

    `again` means that a person requested one more attempt. Then the end of the last attempt does
    not stop the trial. The fields from `attempts` to `unreadable` are those of the learner's
    machine, or of the machine at `seat`; see :meth:`at_seat`.
    """

    now: datetime
    total_timesteps: int
    segment_timesteps: int
    compute: Compute
    attempts: tuple[Attempt, ...] = ()
    machine: Machine | None = None
    heartbeat: Heartbeat | None = None
    progress: StepProgress | None = None
    unreadable: str = Field("", description="why what the trainer wrote cannot be read")
    committed_step: int = 0
    cancelled: bool = False
    again: bool = False
    no_place: bool = Field(False, description="the run has as many machines at work as it may have")
    held: bool = Field(
        False,
        description="the checks or the budget refused the next machine of a seat that only "
        "collects; a worker tries it again when it looks for another reason",
        exclude_if=lambda value: value is False,
    )
    due_at: datetime | None = Field(None, description="when the result is needed")
    stops_early: bool = Field(False, description="the experiment has a rule for an early stop")
    stop: str = Field(
        "",
        description="why the trial is stopped early "
        "(rl_lifecycle.evaluation.early_stops); empty: it is not",
    )
    patience: Patience = Patience()
    seat: int = Field(LEARNER_SEAT, ge=0, exclude_if=lambda value: value == LEARNER_SEAT)
    collectors: tuple[SeatEvidence, ...] = Field(
        (),
        description="the trial's machines that only collect, from seat 1 on",
        exclude_if=lambda value: not value,
    )

    def at_seat(self, seat: int) -> Self:
        """What is known of one machine of the trial, in the place of the learner's machine.

        A machine that only collects commits no checkpoint, and it does not stop early by itself.
        """
        if seat == LEARNER_SEAT:
            return self
        own = self.collectors[seat - 1]
        fields = {name: getattr(own, name) for name in SeatEvidence.model_fields}
        trial = {"seat": seat, "collectors": (), "stop": ""}
        return self.model_copy(update=fields | trial)

    def with_seat(self, one: Self) -> Self:
        """Replace what is known of one machine.

        :param one: evidence as :meth:`at_seat` gives it.
        """
        if one.seat == LEARNER_SEAT:
            return one.model_copy(update={"collectors": self.collectors})
        before, after = self.collectors[: one.seat - 1], self.collectors[one.seat :]
        return self.model_copy(
            update={"now": one.now, "collectors": (*before, one.of_its_seat, *after)}
        )

    def with_look(self, look: SeatEvidence, now: datetime) -> Self:
        """Replace what is known of the machine by a new look at it."""
        fields = {name: getattr(look, name) for name in SeatEvidence.model_fields}
        return self.model_copy(update=fields | {"now": now})

    @property
    def of_its_seat(self) -> SeatEvidence:
        """The part that differs from machine to machine."""
        return SeatEvidence(**{name: getattr(self, name) for name in SeatEvidence.model_fields})

    @property
    def seats(self) -> range:
        """The numbers of the trial's seats."""
        return range(1 + len(self.collectors))

    def without_requests(self) -> Self:
        """The same evidence without the attempts' CreateFleet requests, which are long.

        What pools answered to the requests for machines that only collect is left out, too, because
        there are many.
        """
        return self.model_copy(
            update={
                "attempts": tuple(attempt.without_request() for attempt in self.attempts),
                "collectors": tuple(one.shortened() for one in self.collectors),
            }
        )

    def seen(
        self,
        now: datetime,
        machine: Machine | None,
        heartbeat: Heartbeat | None,
        progress: StepProgress | None,
    ) -> Self:
        """Replace what is seen of the machine and of its trainer."""
        return self.model_copy(
            update={
                "now": now,
                "machine": machine,
                "heartbeat": heartbeat,
                "progress": progress,
            }
        )

    def with_stop(self, stop: str) -> Self:
        """Replace the reason to stop early."""
        return self.model_copy(update={"stop": stop})

    def with_no_place(self, no_place: bool) -> Self:
        """Replace whether the trial must wait for another machine of the run to end."""
        return self.model_copy(update={"no_place": no_place})

    def launched(self) -> Self:
        """Note that a person's request for one more attempt is used up."""
        return self.model_copy(update={"again": False})

    def without_launch(self) -> Self:
        """Let the seat wait, because the checks or the budget refused its machine."""
        return self.model_copy(update={"held": True})

    def without_place(self) -> Self:
        """Let the trial wait for a place. A person's request for one more attempt is used up."""
        return self.model_copy(update={"no_place": True, "again": False})

    @property
    def left_s(self) -> float:
        """The seconds of training that are left.

        They are computed from the last known speed. Without a speed, all allowed hours are left.
        """
        allowed = max(0.0, self.compute.max_hours - hours_used(self.attempts)) * 3600
        beat = self.heartbeat
        if beat is None or beat.steps_per_s <= 0:
            return allowed
        return min(allowed, max(0, self.total_timesteps - self.committed_step) / beat.steps_per_s)

    @property
    def segment_s(self) -> float:
        """The seconds that a segment takes.

        They are computed from the last known speed. Without a speed, a segment gets its share of
        the allowed hours.
        """
        beat = self.heartbeat
        if beat is not None and beat.steps_per_s > 0:
            return self.segment_timesteps / beat.steps_per_s
        return (
            self.left_s
            * self.segment_timesteps
            / max(1, self.segment_timesteps, self.total_timesteps - self.committed_step)
        )

    @property
    def newest(self) -> Attempt | None:
        """The newest attempt, which is the one that counts."""
        return self.attempts[-1] if self.attempts else None

    @property
    def beat(self) -> Heartbeat | None:
        """The heartbeat, if the newest attempt's machine wrote it. Older ones do not count."""
        newest, beat = self.newest, self.heartbeat
        return (
            beat
            if newest is not None and beat is not None and beat.attempt == newest.attempt
            else None
        )


def track_progress(
    before: StepProgress | None, beat: Heartbeat | None, now: datetime, committed_step: int = 0
) -> StepProgress | None:
    """Update the stall clock. It starts again when the step changes or the attempt is another one.

    It also starts again when a trainer that waited goes on.

    :param committed_step: the step from which the attempt resumed, to recognise its first new step.
    """
    if beat is None:
        return before
    waiting = beat.state is TrainerState.WAITING
    if before is not None and (before.attempt, before.step) == (beat.attempt, beat.step):
        if waiting == before.waiting:
            return before
        goes_on = {} if waiting else {"since": now}
        return before.model_copy(update={"waiting": waiting, **goes_on})
    same = before is not None and before.attempt == beat.attempt
    first = before.first_step_at if before is not None and same else None
    return StepProgress(
        attempt=beat.attempt,
        step=beat.step,
        since=now,
        first_step_at=first or first_step_of(beat, committed_step),
        blind_s=before.blind_s if before is not None and same else 0.0,
        waiting=waiting,
    )


def excuse(
    before: StepProgress | None, attempt: int, since: datetime, now: datetime
) -> StepProgress:
    """Let the clocks of an attempt stand still while AWS did not answer us.

    :param since: the last time when it answered.
    """
    blind_s = max(0.0, (now - since).total_seconds())
    if before is None or before.attempt != attempt:
        return StepProgress(attempt=attempt, step=0, since=now, blind_s=blind_s)
    moved = before.since + timedelta(seconds=blind_s)
    return before.model_copy(update={"since": moved, "blind_s": before.blind_s + blind_s})


def ended_at(evidence: Evidence) -> datetime:
    """When the newest attempt's machine ended.

    It is the time that EC2 gives, or else the last heartbeat, or else now if the machine still
    runs.
    """
    machine, beat = evidence.machine, evidence.beat
    if machine is not None and machine.state.alive:
        return evidence.now
    if machine is not None and machine.ended_at is not None:
        return min(machine.ended_at, evidence.now)
    return min(beat.at, evidence.now) if beat is not None else evidence.now
