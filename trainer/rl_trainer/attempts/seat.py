"""What a machine that only collects does: wait for a generation, and collect in it."""

import time

from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.storage.layout import TrialId, heartbeat_key
from rl_lifecycle.storage.object_store import ObjectStore
from rl_lifecycle.trials.gangs import Announcement, Generation, Member
from rl_lifecycle.trials.heartbeats import Heartbeat, TrainerState
from rl_trainer.attempts.seat_reports import SeatReporter
from rl_trainer.errors import (
    EnvironmentFailedError,
    FencedError,
    InterruptedTrainingError,
    OtherHardwareError,
    OutOfMemoryError,
)
from rl_trainer.gangs.liveness import BEAT_S, SeatPulse
from rl_trainer.gangs.processes import CollectorProcesses
from rl_trainer.gangs.roster import GenerationFinder
from rl_trainer.gangs.transport import LostPeerError, Rendezvous
from rl_trainer.reporting.journal import Journal
from rl_trainer.training.interruptions import GRACE_S, Interruption

#: Seconds between two looks for a generation, while there is none and while one lasts.
IDLE_S, BUSY_S = 0.5, 3.0
#: Seconds between two looks at the learner's heartbeat.
LEARNER_S = 2.0
#: The learner has ended the trial, for now or for good.
ENDED = (TrainerState.FINISHED, TrainerState.FAILED)


class Seat:
    """One machine that only collects.

    :param place: the trial, at this machine's seat.
    """

    def __init__(
        self,
        spec: Spec,
        place: TrialId,
        store: ObjectStore,
        announcement: Announcement,
        journal: Journal,
        reporter: SeatReporter,
        interruption: Interruption,
    ) -> None:
        self._spec, self._place, self._store = spec, place, store
        self._journal, self._reporter, self._interruption = journal, reporter, interruption
        self._finder = GenerationFinder(store, place)
        reporter.announcement = announcement
        self._known_end = self._learner_end()
        self._look_at = 0.0

    @property
    def _announcement(self) -> Announcement:
        announcement = self._reporter.announcement
        if announcement is None:
            raise RuntimeError("a seat has an announcement")
        return announcement

    def run(self) -> None:
        """Collect until the learner has ended the trial.

        :raises FencedError: if a later attempt of this seat has begun.
        :raises OtherHardwareError: if the trial's collectors are of another numeric class.
        :raises OutOfMemoryError: if a collecting process of this machine was killed.
        :raises EnvironmentFailedError: if an environment has ended its process.
        :raises InterruptedTrainingError: after a notice.
        """
        self._reporter.beat(TrainerState.WAITING, "waits for the learner", at_once=True)
        while not self._has_ended():
            self._check()
            generation = self._finder.look()
            member = self._member_of(generation)
            if generation is None or member is None:
                self._reporter.beat(TrainerState.WAITING, "waits for the learner")
                time.sleep(IDLE_S)
                continue
            self._serve(generation, member)

    def _check(self) -> None:
        if self._reporter.beats.fenced.is_set():
            raise FencedError(f"a later attempt has taken over seat {self._place.seat}")
        if self._interruption.notice:
            raise InterruptedTrainingError(f"{self._interruption.notice}, between two generations")

    def _member_of(self, generation: Generation | None) -> Member | None:
        """Return this machine as a member of a generation that it has not left yet.

        :raises OtherHardwareError: if it can never be a member.
        """
        if generation is None or generation.name == self._announcement.left:
            return None
        member = generation.find(self._place.seat, self._announcement.nonce)
        ours, theirs = self._announcement.numeric_class, generation.collectors_class
        waits = self._spec.experiment.compute.on_other_hardware == "wait"
        if member is None and theirs and theirs != ours and waits:
            raise OtherHardwareError(
                f"this machine is of the numeric class {ours}, and the trial's collectors are of "
                f"{theirs}: choose compute.collectors.instance_types of one processor generation, "
                "or set compute.on_other_hardware: continue, and the digest will not be comparable"
            )
        return member

    def _serve(self, generation: Generation, member: Member) -> None:
        """Collect until the generation ends.

        :raises OutOfMemoryError: if a collecting process of this machine was killed.
        :raises EnvironmentFailedError: if an environment has ended its process.
        """
        shards = [s for s, rank in enumerate(generation.shards) if rank in member.ranks]
        self._journal.event(
            "joined",
            f"{self._place}: generation {generation.name}, shards {shards or 'none'}",
            segment=generation.segment,
        )
        self._reporter.begin()
        meeting = Rendezvous(generation.address, generation.port, generation.world)
        processes = CollectorProcesses(self._spec, self._place.trial, self._announcement.address)
        before = self._reporter.steps
        pulse = SeatPulse(generation.address, generation.port, self._place.seat)
        try:
            processes.start(meeting, member.ranks)
            why = self._watch(generation, processes, pulse, before)
        except LostPeerError as error:
            why = str(error)
        finally:
            pulse.close()
            problem = processes.why_ended()
            processes.kill()
        if isinstance(problem, OutOfMemoryError | EnvironmentFailedError):
            raise problem
        why = str(problem) if problem is not None else why
        self._journal.event("left", f"{self._place}: generation {generation.name}: {why}")
        self._reporter.announcement = self._announcement.after(generation.name)
        self._reporter.beat(TrainerState.WAITING, f"waits for the learner: {why}", at_once=True)

    def _watch(
        self,
        generation: Generation,
        processes: CollectorProcesses,
        pulse: SeatPulse,
        before: int,
    ) -> str:
        """Watch until the generation is over. :return: why it is.

        :raises LostPeerError: if the learner does not answer.
        """
        look_at, told_at = time.monotonic() + BUSY_S, None
        while not processes.wait(BEAT_S):
            pulse.check()
            processes.end_hanging()
            self._reporter.steps = before + processes.steps
            self._reporter.beat(TrainerState.TRAINING)
            if self._reporter.beats.fenced.is_set():
                return "a later attempt has taken over this seat"
            now = time.monotonic()
            if self._interruption.notice and told_at is None:
                told_at = now
                pulse.leave()
                self._reporter.announcement = self._announcement.as_leaving()
            if told_at is not None and now - told_at > GRACE_S:
                return f"{self._interruption.notice}, and the segment did not end in time"
            if now >= look_at:
                look_at = now + BUSY_S
                newest = self._finder.look()
                if newest is not None and newest.name != generation.name:
                    return f"generation {newest.name} has begun"
        self._reporter.steps = before + processes.steps
        return "the learner has ended it"

    def _has_ended(self) -> bool:
        """Whether the trial is trained, or has failed since this process began to look.

        A failure from before belongs to an attempt that a person may just have repeated.
        """
        now = time.monotonic()
        if now < self._look_at:
            return False
        self._look_at = now + LEARNER_S
        end = self._learner_end()
        return end is not None and (end[1] is TrainerState.FINISHED or end != self._known_end)

    def _learner_end(self) -> tuple[int, TrainerState] | None:
        """The attempt and the state with which the learner has ended; None if it has not."""
        key = heartbeat_key(self._place.whole)
        try:
            found = self._store.find(key)
            beat = Heartbeat.from_json(found.data, key) if found is not None else None
        except InvalidRecordError:  # the launcher reports it
            return None
        return (beat.attempt, beat.state) if beat is not None and beat.state in ENDED else None
