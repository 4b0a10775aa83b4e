"""From what is seen of a trial to its state, the cause, and the next thing to do: pure functions, no clock, no network.

    Evidence (attempts, machine, heartbeat, progress, time) ──diagnose──► Finding(state, cause, reason)
                                                            ──decide_action──► Action(WAIT | ASK | SETTLE | LAUNCH | …)

Whoever acts looks again after each action, so that being killed between any two of them loses nothing.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field

from rl_lifecycle.attempts import Attempt, AttemptEnd
from rl_lifecycle.experiments import Compute
from rl_lifecycle.heartbeats import Heartbeat, TrainerCause, TrainerState
from rl_lifecycle.launches import TOKEN_HOLDS, back_off_s, hours_used
from rl_lifecycle.records import Record
from rl_lifecycle.recoveries import first_step_of


class TrialState(StrEnum):
    """What a trial is."""

    PENDING = "pending"
    WAITING_FOR_CAPACITY = "waiting_for_capacity"
    LAUNCHING = "launching"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    STALLED = "stalled"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


class InstanceState(StrEnum):
    """EC2's own words for the state of an instance."""

    PENDING = "pending"
    RUNNING = "running"
    SHUTTING_DOWN = "shutting-down"
    STOPPING = "stopping"
    STOPPED = "stopped"
    TERMINATED = "terminated"

    @property
    def alive(self) -> bool:
        """Whether it may still train, and costs."""
        return self in (InstanceState.PENDING, InstanceState.RUNNING)


class Machine(Record):
    """What EC2 says of an instance of ours."""

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


class Progress(Record):
    """The newest step that was seen, and when it was seen first: a step that does not move is a stall."""

    attempt: int
    step: int
    since: datetime
    first_step_at: datetime | None = None


class Patience(Record):
    """How long silence is borne."""

    boot_s: float = 900.0
    stall_s: float = 600.0
    stall_segments: float = 5.0
    visible_s: float = 300.0
    attempts_without_progress: int = 3
    last_words_s: float = Field(20.0, description="for a machine that failed to upload its log and end by itself")
    farewell_s: float = Field(40.0, description="the same for one that finished; it may still be filming its policy")


class Evidence(Record):
    """All that is known of a trial at one moment.

    `again`: a person asked for one more attempt, so an end that would stop the trial does not.
    """

    now: datetime
    total_timesteps: int
    segment_timesteps: int
    compute: Compute
    attempts: tuple[Attempt, ...] = ()
    machine: Machine | None = None
    heartbeat: Heartbeat | None = None
    progress: Progress | None = None
    committed_step: int = 0
    cancelled: bool = False
    again: bool = False
    no_place: bool = Field(False, description="as many machines of the run are at work as may be")
    due_at: datetime | None = Field(None, description="when the result is needed")
    stops_early: bool = Field(False, description="the experiment has a rule by which it may be stopped early")
    stop: str = Field("", description="why it need not be trained any further (rl_lifecycle.early_stops); empty: it must")
    patience: Patience = Patience()

    @property
    def left_s(self) -> float:
        """Seconds of training that are left: at the speed that was seen last, else all the hours that are allowed."""
        allowed = max(0.0, self.compute.max_hours - hours_used(self.attempts)) * 3600
        beat = self.heartbeat
        if beat is None or beat.steps_per_s <= 0:
            return allowed
        return min(allowed, max(0, self.total_timesteps - self.committed_step) / beat.steps_per_s)

    @property
    def segment_s(self) -> float:
        """Seconds that a segment takes: at the speed that was seen last, else its share of all the hours that are allowed."""
        beat = self.heartbeat
        if beat is not None and beat.steps_per_s > 0:
            return self.segment_timesteps / beat.steps_per_s
        return self.left_s * self.segment_timesteps / max(1, self.segment_timesteps, self.total_timesteps - self.committed_step)

    @property
    def newest(self) -> Attempt | None:
        """The attempt that counts."""
        return self.attempts[-1] if self.attempts else None

    @property
    def beat(self) -> Heartbeat | None:
        """What the newest attempt's own machine said; an older machine's word is history."""
        newest, beat = self.newest, self.heartbeat
        return beat if newest is not None and beat is not None and beat.attempt == newest.attempt else None


class Finding(Record):
    """What a trial is, why, and a sentence for a person."""

    state: TrialState
    cause: AttemptEnd | None = None
    reason: str = ""


class ActionKind(StrEnum):
    """What there is to do."""

    WAIT = "wait"          # until something changes, or until `at`
    ASK = "ask"            # adopt the machine of the newest attempt, or, if none is seen, ask for it again with the same token
    SETTLE = "settle"      # make sure that the newest attempt's machine is gone, and write down how it ended
    LAUNCH = "launch"      # write the next attempt and ask for its machine
    FINISH = "finish"      # the trial is trained
    FAIL = "fail"          # the trial is over, untrained


class Action(Record):
    """One thing to do, and the finding it rests on. `at`: not before."""

    kind: ActionKind
    finding: Finding
    at: datetime | None = None


#: What the trainer says of its own failure, and what it means. STORE is trouble outside: another machine may do.
CAUSES: dict[TrainerCause | None, AttemptEnd] = {
    TrainerCause.SPEC: AttemptEnd.CODE_FAILED,
    TrainerCause.ENVIRONMENT: AttemptEnd.CODE_FAILED,
    TrainerCause.CODE: AttemptEnd.CODE_FAILED,
    TrainerCause.DIVERGED: AttemptEnd.DIVERGED,
    TrainerCause.OUT_OF_MEMORY: AttemptEnd.OUT_OF_MEMORY,
    TrainerCause.DISK_FULL: AttemptEnd.DISK_FULL,
    TrainerCause.STORE: AttemptEnd.MACHINE_LOST,
    TrainerCause.OTHER_HARDWARE: AttemptEnd.OTHER_HARDWARE,
    None: AttemptEnd.CODE_FAILED,
}
#: EC2's StateReason codes that say more than "it is gone".
#: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html
REASON_CODES = {
    "Server.SpotInstanceTermination": AttemptEnd.INTERRUPTED,
    "Server.SpotInstanceShutdown": AttemptEnd.INTERRUPTED,
    "Server.ScheduledStop": AttemptEnd.INTERRUPTED,
    "Server.InsufficientInstanceCapacity": AttemptEnd.NO_CAPACITY,
    "Server.InternalError": AttemptEnd.MACHINE_LOST,
    "Client.InternalError": AttemptEnd.REFUSED,
    "Client.InvalidSnapshot.NotFound": AttemptEnd.REFUSED,
    "Client.VolumeLimitExceeded": AttemptEnd.REFUSED,
}
#: After one of these the trainer says nothing more.
LAST_WORDS = (TrainerState.FINISHED, TrainerState.FAILED, TrainerState.INTERRUPTED, TrainerState.FENCED)
#: An attempt that ended so is followed by another: the trouble was the machine's, not the training's.
RELAUNCHED = frozenset({AttemptEnd.INTERRUPTED, AttemptEnd.NO_CAPACITY, AttemptEnd.MACHINE_LOST, AttemptEnd.STALLED,
                        AttemptEnd.OTHER_HARDWARE})
#: What to do about an end that stops the trial.
ADVICE = {
    AttemptEnd.CODE_FAILED: "read the traceback in the machine's log, correct the experiment or its environment, trigger again",
    AttemptEnd.DIVERGED: "the parameters became NaN: lower the learning rate or clip the gradient, trigger again",
    AttemptEnd.OUT_OF_MEMORY: "choose compute.instance_types with more memory, or a smaller buffer or batch",
    AttemptEnd.DISK_FULL: "give the launch template a larger volume, or checkpoint less",
    AttemptEnd.DEADLINE: "raise compute.max_hours in the experiment, trigger again",
    AttemptEnd.REFUSED: "correct what AWS refuses and clear the task",
    AttemptEnd.CANCELLED: "trigger again when it is wanted",
}


def diagnose(evidence: Evidence) -> Finding:
    """Say what a trial is and why, from the strongest evidence down to silence."""
    newest = evidence.newest
    if finished := _finished(evidence):
        return finished
    if newest is None:
        return (Finding(state=TrialState.CANCELLED, cause=AttemptEnd.CANCELLED, reason="cancelled before it began")
                if evidence.cancelled else Finding(state=TrialState.PENDING, reason="no machine was asked for yet"))
    if evidence.stop and _may_stop(evidence, newest):
        return Finding(state=TrialState.FINISHED, cause=AttemptEnd.STOPPED_EARLY, reason=evidence.stop)
    if newest.outcome.end is not None:
        return _of_end(newest.outcome.end, newest.outcome.reason)
    if evidence.cancelled:
        return Finding(state=TrialState.CANCELLED, cause=AttemptEnd.CANCELLED, reason="cancelled")
    return (_said_by_trainer(evidence) or _said_by_ec2(evidence, newest) or _past_deadline(evidence, newest)
            or _silent(evidence, newest))


def _may_stop(evidence: Evidence, newest: Attempt) -> bool:
    """Whether an early stop may end the trial well: it must not turn a failure, or somebody's will, into success."""
    beat, end = evidence.beat, newest.outcome.end
    failed = beat is not None and beat.state is TrainerState.FAILED and CAUSES[beat.cause] not in RELAUNCHED
    return not evidence.cancelled and (end is None or end in RELAUNCHED) and not failed


def _finished(evidence: Evidence) -> Finding | None:
    """Only the trainer can say that a trial is finished: its policy is committed then, whichever attempt did it."""
    beat = evidence.heartbeat
    if beat is not None and beat.state is TrainerState.FINISHED and beat.step >= evidence.total_timesteps:
        return Finding(state=TrialState.FINISHED, cause=AttemptEnd.FINISHED, reason=f"trained {beat.step:,} steps")
    return None


def _of_end(end: AttemptEnd, reason: str) -> Finding:
    """The state that an attempt's end leaves the trial in."""
    states = {AttemptEnd.FINISHED: TrialState.FINISHED, AttemptEnd.STOPPED_EARLY: TrialState.FINISHED,
              AttemptEnd.CANCELLED: TrialState.CANCELLED,
              AttemptEnd.NO_CAPACITY: TrialState.WAITING_FOR_CAPACITY, AttemptEnd.STALLED: TrialState.STALLED,
              AttemptEnd.INTERRUPTED: TrialState.INTERRUPTED, AttemptEnd.MACHINE_LOST: TrialState.INTERRUPTED,
              AttemptEnd.OTHER_HARDWARE: TrialState.WAITING_FOR_CAPACITY}
    return Finding(state=states.get(end, TrialState.FAILED), cause=end, reason=reason or end.value.replace("_", " "))


def _said_by_trainer(evidence: Evidence) -> Finding | None:
    beat = evidence.beat
    if beat is None:
        return None
    if beat.state is TrainerState.FAILED:
        return _of_end(CAUSES[beat.cause], beat.message or "the trainer failed and said no more")
    if beat.state is TrainerState.INTERRUPTED:
        return _of_end(AttemptEnd.INTERRUPTED, beat.message or "the machine was given notice")
    if beat.state is TrainerState.FENCED:
        return _of_end(AttemptEnd.MACHINE_LOST, "the trainer was fenced out by a later attempt")
    return None


def _said_by_ec2(evidence: Evidence, newest: Attempt) -> Finding | None:
    machine = evidence.machine
    if machine is None:
        return _unseen(evidence, newest)
    if machine.state.alive:
        return None
    if evidence.now >= newest.deadline_at and machine.reason_code not in REASON_CODES:
        return _of_end(AttemptEnd.DEADLINE, f"the machine reached its deadline {newest.deadline_at:%Y-%m-%d %H:%M} UTC")
    said = machine.reason or machine.reason_code or "no reason given"
    return _of_end(REASON_CODES.get(machine.reason_code, AttemptEnd.MACHINE_LOST),
                   f"{machine.instance_id} is {machine.state}: {said}")


def _unseen(evidence: Evidence, newest: Attempt) -> Finding | None:
    """No machine is seen: EC2 shows what it made only after a while, and a request may not have been answered."""
    launched = newest.outcome.launched_at
    if newest.outcome.instance_id is None:
        if evidence.now - newest.created_at > TOKEN_HOLDS:
            return _of_end(AttemptEnd.MACHINE_LOST, "the request for its machine was never answered")
        return Finding(state=TrialState.LAUNCHING, reason="its machine was asked for, and the answer is not known")
    if launched is not None and evidence.now - launched > timedelta(seconds=evidence.patience.visible_s):
        return _of_end(AttemptEnd.MACHINE_LOST, f"EC2 does not know {newest.outcome.instance_id} any more")
    return Finding(state=TrialState.LAUNCHING, reason=f"{newest.outcome.instance_id} is not visible yet")


def _past_deadline(evidence: Evidence, newest: Attempt) -> Finding | None:
    if evidence.now < newest.deadline_at:
        return None
    return _of_end(AttemptEnd.DEADLINE, f"the deadline {newest.deadline_at:%Y-%m-%d %H:%M} UTC has passed "
                   f"(compute.max_hours {evidence.compute.max_hours:g})")


def _silent(evidence: Evidence, newest: Attempt) -> Finding:
    """The machine is up and nobody complains: it boots, it trains, or it hangs."""
    beat, machine = evidence.beat, evidence.machine
    up_since = machine.launched_at if machine is not None else newest.created_at
    if beat is None or beat.state is TrainerState.STARTING:
        quiet = (evidence.now - up_since).total_seconds()
        if quiet > evidence.patience.boot_s:
            return _of_end(AttemptEnd.STALLED, f"no training step within {quiet:.0f} s of the machine's launch")
        return Finding(state=TrialState.LAUNCHING, reason="the machine is starting")
    still = (evidence.now - evidence.progress.since).total_seconds() if evidence.progress else 0.0
    if still > (limit := stall_limit_s(evidence, beat)):
        return _of_end(AttemptEnd.STALLED, f"step {beat.step:,} has not moved for {still:.0f} s (limit {limit:.0f} s)")
    return Finding(state=TrialState.RUNNING, reason=beat.message)


def stall_limit_s(evidence: Evidence, beat: Heartbeat) -> float:
    """How long a step may stand still: several expected segments, and never less than the patience's floor."""
    segment_s = evidence.segment_timesteps / beat.steps_per_s if beat.steps_per_s > 0 else 0.0
    return max(evidence.patience.stall_s, evidence.patience.stall_segments * segment_s)


def track_progress(before: Progress | None, beat: Heartbeat | None, now: datetime, committed_step: int = 0) -> Progress | None:
    """Carry on the stall clock: it starts anew when the step moves, or another attempt speaks.

    :param committed_step: where the attempt resumed, to tell its first new step.
    """
    if beat is None:
        return before
    if before is not None and (before.attempt, before.step) == (beat.attempt, beat.step):
        return before
    same = before is not None and before.attempt == beat.attempt
    first = before.first_step_at if before is not None and same else None
    return Progress(attempt=beat.attempt, step=beat.step, since=now, first_step_at=first or first_step_of(beat, committed_step))


def decide_action(evidence: Evidence) -> Action:
    """Choose the next thing to do for a trial."""
    finding, newest = diagnose(evidence), evidence.newest
    if newest is not None and newest.outcome.end is None:
        return _of_open_attempt(evidence, finding, newest)
    if finding.state is TrialState.FINISHED:
        return Action(kind=ActionKind.FINISH, finding=finding)
    if finding.state in (TrialState.FAILED, TrialState.CANCELLED) and not evidence.again:
        return Action(kind=ActionKind.FAIL, finding=_advised(finding))
    if evidence.cancelled:
        return Action(kind=ActionKind.FAIL, finding=Finding(state=TrialState.CANCELLED, cause=AttemptEnd.CANCELLED,
                                                            reason="cancelled"))
    if reason := why_give_up(evidence):
        failed = Finding(state=TrialState.FAILED, cause=finding.cause, reason=f"{reason}; last: {finding.reason}")
        return Action(kind=ActionKind.FAIL, finding=failed)
    not_before = _not_before(evidence.attempts)
    if not_before is not None and evidence.now < not_before:
        return Action(kind=ActionKind.WAIT, finding=finding, at=not_before)
    return Action(kind=ActionKind.WAIT if evidence.no_place else ActionKind.LAUNCH, finding=finding)


def _of_open_attempt(evidence: Evidence, finding: Finding, newest: Attempt) -> Action:
    if finding.cause is not None:
        return Action(kind=ActionKind.WAIT if _speaks_still(evidence) else ActionKind.SETTLE, finding=finding)
    unanswered = finding.state is TrialState.LAUNCHING and evidence.beat is None
    if newest.outcome.instance_id is None and (evidence.machine is not None or unanswered):
        return Action(kind=ActionKind.ASK, finding=finding)
    return Action(kind=ActionKind.WAIT, finding=finding)


def _speaks_still(evidence: Evidence) -> bool:
    """Whether the machine has said its last word and is about to end by itself: its log is still on the way."""
    beat, machine = evidence.beat, evidence.machine
    if beat is None or beat.state not in LAST_WORDS or machine is None or not machine.state.alive or evidence.cancelled:
        return False
    patience = evidence.patience.farewell_s if beat.state is TrainerState.FINISHED else evidence.patience.last_words_s
    return (evidence.now - beat.at).total_seconds() < patience


def ended_at(evidence: Evidence) -> datetime:
    """When the newest attempt's machine ended: as EC2 says, else at its last sign of life, else (it still runs) now."""
    machine, beat = evidence.machine, evidence.beat
    if machine is not None and machine.state.alive:
        return evidence.now
    if machine is not None and machine.ended_at is not None:
        return min(machine.ended_at, evidence.now)
    return min(beat.at, evidence.now) if beat is not None else evidence.now


def _not_before(attempts: Sequence[Attempt]) -> datetime | None:
    ended_at = attempts[-1].outcome.ended_at if attempts else None
    return ended_at + timedelta(seconds=back_off_s(attempts)) if ended_at is not None else None


def why_give_up(evidence: Evidence) -> str:
    """Say why another machine would be in vain; empty when it would not."""
    used, most = hours_used(evidence.attempts), evidence.compute.max_hours
    if used >= most:
        return f"compute.max_hours {most:g} are used up"
    since = _waiting_since(evidence)
    if since is not None and evidence.now - since > timedelta(hours=most):
        return f"no machine was to be had within compute.max_hours {most:g}"
    ran = [attempt for attempt in evidence.attempts if attempt.outcome.end is not AttemptEnd.NO_CAPACITY]
    limit = evidence.patience.attempts_without_progress
    last = ran[-limit:]
    if len(last) == limit and not _progressed(ran, limit):
        return f"{limit} machines in a row ended without a new checkpoint"
    return ""


def _waiting_since(evidence: Evidence) -> datetime | None:
    """When the waiting for a machine began: at the end of the last one that was had. None: a person asked for once more."""
    if evidence.again or not evidence.attempts:
        return None
    had = [attempt.outcome.ended_at for attempt in evidence.attempts
           if attempt.outcome.end is not AttemptEnd.NO_CAPACITY and attempt.outcome.ended_at is not None]
    return had[-1] if had else evidence.attempts[0].created_at


def _progressed(ran: Sequence[Attempt], limit: int) -> bool:
    """Whether any of the last machines committed beyond what was there before them."""
    before = ran[-limit - 1].outcome.committed_step if len(ran) > limit else 0
    return any((attempt.outcome.committed_step or 0) > (before or 0) for attempt in ran[-limit:])


def _advised(finding: Finding) -> Finding:
    advice = ADVICE.get(finding.cause) if finding.cause is not None else None
    return finding.model_copy(update={"reason": f"{finding.reason}; {advice}"}) if advice else finding
