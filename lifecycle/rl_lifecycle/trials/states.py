"""The state of a trial, derived from its evidence. A pure function: no clock, no network.

    Evidence (attempts, machine, heartbeat, progress, time)
        ── diagnose ──► Finding (state, cause, reason)
        ── decide_action ──► Action (WAIT | ASK | SETTLE | LAUNCH | …)

The second step is :mod:`rl_lifecycle.trials.actions`.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from rl_lifecycle.machines.launch_requests import TOKEN_HOLDS
from rl_lifecycle.machines.machine_attempts import Attempt, AttemptEnd
from rl_lifecycle.records.record import Record
from rl_lifecycle.storage.layout import LEARNER_SEAT
from rl_lifecycle.trials.evidence import Evidence
from rl_lifecycle.trials.heartbeats import Heartbeat, TrainerCause, TrainerState


class TrialState(StrEnum):
    """The states of a trial."""

    PENDING = "pending"
    WAITING_FOR_CAPACITY = "waiting_for_capacity"
    LAUNCHING = "launching"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    STALLED = "stalled"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Finding(Record):
    """The state of a trial, its cause, and a sentence for a person."""

    state: TrialState
    cause: AttemptEnd | None = None
    reason: str = ""

    def with_reason(self, reason: str) -> Self:
        """Replace the reason."""
        return self.model_copy(update={"reason": reason})

    def failed(self) -> Self:
        """The same cause and reason, as a failure."""
        return self.model_copy(update={"state": TrialState.FAILED})


#: The cause that the trainer reports → the end of the attempt. STORE is a problem outside of the
#: training, so another machine may help.
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
#: EC2's StateReason codes that say why an instance ended.
#: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html and
#: https://docs.aws.amazon.com/autoscaling/ec2/userguide/ts-as-instancelaunchfailure.html
REASON_CODES = {
    "Server.SpotInstanceTermination": AttemptEnd.INTERRUPTED,
    "Server.SpotInstanceShutdown": AttemptEnd.INTERRUPTED,
    "Server.ScheduledStop": AttemptEnd.INTERRUPTED,
    "Server.InsufficientInstanceCapacity": AttemptEnd.NO_CAPACITY,
    "Server.InternalError": AttemptEnd.MACHINE_LOST,
    "Client.InternalError": AttemptEnd.REFUSED,
    "Client.InvalidKMSKey.InvalidState": AttemptEnd.REFUSED,
    "Client.InvalidSnapshot.NotFound": AttemptEnd.REFUSED,
    "Client.VolumeLimitExceeded": AttemptEnd.REFUSED,
}
#: What else a person should know about a code. EC2's own message names no key.
REASON_HINTS = dict.fromkeys(
    ("Client.InternalError", "Client.InvalidKMSKey.InvalidState"),
    "; mostly, the launch may not use the KMS key that encrypts its disks: see the account's "
    "default key with `aws ec2 get-ebs-default-kms-key-id`",
)
#: The last states that a trainer reports.
LAST_WORDS = (
    TrainerState.FINISHED,
    TrainerState.FAILED,
    TrainerState.INTERRUPTED,
    TrainerState.FENCED,
)
#: After one of these ends another attempt follows, because the machine caused the problem and not
#: the training.
RELAUNCHED = frozenset(
    {
        AttemptEnd.INTERRUPTED,
        AttemptEnd.NO_CAPACITY,
        AttemptEnd.MACHINE_LOST,
        AttemptEnd.STALLED,
        AttemptEnd.OTHER_HARDWARE,
    }
)


def diagnose(evidence: Evidence) -> Finding:
    """Find the state of a trial and its cause. The strongest evidence decides."""
    newest = evidence.newest
    if finished := _finished(evidence):
        return finished
    if newest is None:
        return (
            Finding(
                state=TrialState.CANCELLED,
                cause=AttemptEnd.CANCELLED,
                reason="cancelled before it began",
            )
            if evidence.cancelled
            else Finding(state=TrialState.PENDING, reason="no machine was requested yet")
        )
    if evidence.stop and _may_stop(evidence, newest):
        return Finding(
            state=TrialState.FINISHED, cause=AttemptEnd.STOPPED_EARLY, reason=evidence.stop
        )
    if newest.outcome.end is not None:
        return _of_end(newest.outcome.end, newest.outcome.reason)
    if evidence.cancelled:
        return Finding(state=TrialState.CANCELLED, cause=AttemptEnd.CANCELLED, reason="cancelled")
    return (
        _said_by_trainer(evidence)
        or _said_by_ec2(evidence, newest)
        or _past_deadline(evidence, newest)
        or _silent(evidence, newest)
    )


def _may_stop(evidence: Evidence, newest: Attempt) -> bool:
    """Whether an early stop may end the trial as a success.

    It must not turn a failure or a cancellation into a success.
    """
    beat, end = evidence.beat, newest.outcome.end
    failed = (
        beat is not None
        and beat.state is TrainerState.FAILED
        and CAUSES[beat.cause] not in RELAUNCHED
    )
    return not evidence.cancelled and (end is None or end in RELAUNCHED) and not failed


def _finished(evidence: Evidence) -> Finding | None:
    """Whether the trainer reported the end of the training.

    Only the learner can report it, because the policy is then committed. Every attempt's report
    counts.
    """
    beat = evidence.heartbeat
    if (
        beat is not None
        and evidence.seat == LEARNER_SEAT
        and beat.state is TrainerState.FINISHED
        and beat.step >= evidence.total_timesteps
    ):
        return Finding(
            state=TrialState.FINISHED,
            cause=AttemptEnd.FINISHED,
            reason=f"trained {beat.step:,} steps",
        )
    return None


def _of_end(end: AttemptEnd, reason: str) -> Finding:
    """The state in which an attempt's end leaves the trial."""
    states = {
        AttemptEnd.FINISHED: TrialState.FINISHED,
        AttemptEnd.STOPPED_EARLY: TrialState.FINISHED,
        AttemptEnd.CANCELLED: TrialState.CANCELLED,
        AttemptEnd.NO_CAPACITY: TrialState.WAITING_FOR_CAPACITY,
        AttemptEnd.STALLED: TrialState.STALLED,
        AttemptEnd.INTERRUPTED: TrialState.INTERRUPTED,
        AttemptEnd.MACHINE_LOST: TrialState.INTERRUPTED,
        AttemptEnd.OTHER_HARDWARE: TrialState.WAITING_FOR_CAPACITY,
    }
    return Finding(
        state=states.get(end, TrialState.FAILED),
        cause=end,
        reason=reason or end.value.replace("_", " "),
    )


def _said_by_trainer(evidence: Evidence) -> Finding | None:
    beat = evidence.beat
    if beat is None:
        return None
    if beat.state is TrainerState.FINISHED and evidence.seat != LEARNER_SEAT:
        return _of_end(AttemptEnd.FINISHED, beat.message or "the trial is trained")
    if beat.state is TrainerState.FAILED:
        return _of_end(CAUSES[beat.cause], beat.message or "the trainer failed and gave no reason")
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
        return _of_end(
            AttemptEnd.DEADLINE,
            f"the machine reached its deadline {newest.deadline_at:%Y-%m-%d %H:%M} UTC",
        )
    said = (
        f"{machine.instance_id} is {machine.state}: "
        f"{machine.reason or machine.reason_code or 'no reason given'}"
        f"{REASON_HINTS.get(machine.reason_code, '')}"
    )
    cause, beat = REASON_CODES.get(machine.reason_code), evidence.beat
    if (
        cause in (None, AttemptEnd.INTERRUPTED)
        and beat is not None
        and beat.rebalance_at is not None
    ):
        return _of_end(
            AttemptEnd.INTERRUPTED,
            f"{said}; AWS had recommended leaving it at {beat.rebalance_at:%H:%M:%S} UTC",
        )
    return _of_end(cause or AttemptEnd.MACHINE_LOST, said)


def _unseen(evidence: Evidence, newest: Attempt) -> Finding | None:
    """The finding when EC2 shows no machine.

    EC2 shows a new machine only after a while, and a request may not have been answered.
    """
    launched = newest.outcome.launched_at
    if newest.outcome.instance_id is None:
        if evidence.now - newest.created_at > TOKEN_HOLDS:
            return _of_end(
                AttemptEnd.MACHINE_LOST, "the request for its machine was never answered"
            )
        return Finding(
            state=TrialState.LAUNCHING,
            reason="its machine was requested, and the answer is not known",
        )
    if launched is not None and evidence.now - launched > timedelta(
        seconds=evidence.patience.visible_s
    ):
        if _still_moves(evidence):
            return None  # it trains, so it is there, whatever EC2 shows
        return _of_end(
            AttemptEnd.MACHINE_LOST, f"EC2 does not know {newest.outcome.instance_id} any more"
        )
    return Finding(
        state=TrialState.LAUNCHING, reason=f"{newest.outcome.instance_id} is not visible yet"
    )


def _still_moves(evidence: Evidence) -> bool:
    """Whether the newest attempt's trainer has made steps lately."""
    beat, progress = evidence.beat, evidence.progress
    if beat is None or beat.state is TrainerState.STARTING:
        return False
    since = progress.since if progress is not None else beat.at
    return (evidence.now - since).total_seconds() <= stall_limit_s(evidence, beat)


def _past_deadline(evidence: Evidence, newest: Attempt) -> Finding | None:
    if evidence.now < newest.deadline_at:
        return None
    return _of_end(
        AttemptEnd.DEADLINE,
        f"the deadline {newest.deadline_at:%Y-%m-%d %H:%M} UTC has passed "
        f"(compute.max_hours {evidence.compute.max_hours:g})",
    )


def _silent(evidence: Evidence, newest: Attempt) -> Finding:
    """The finding when the machine is up and reports no problem: it starts, trains or hangs."""
    beat, machine = evidence.beat, evidence.machine
    up_since = machine.launched_at if machine is not None else newest.created_at
    if beat is None and evidence.unreadable:
        return _unreadable(evidence, newest, up_since)
    if beat is None or beat.state is TrainerState.STARTING:
        quiet = (evidence.now - up_since).total_seconds() - _blind_s(evidence, newest)
        if quiet > evidence.patience.boot_s:
            return _of_end(
                AttemptEnd.STALLED, f"no training step within {quiet:.0f} s of the machine's launch"
            )
        return Finding(state=TrialState.LAUNCHING, reason="the machine is starting")
    still = (evidence.now - evidence.progress.since).total_seconds() if evidence.progress else 0.0
    if still > (limit := stall_limit_s(evidence, beat)):
        return _of_end(
            AttemptEnd.STALLED,
            f"step {beat.step:,} has not moved for {still:.0f} s (limit {limit:.0f} s)",
        )
    return Finding(state=TrialState.RUNNING, reason=beat.message)


def _unreadable(evidence: Evidence, newest: Attempt, up_since: datetime) -> Finding:
    """The finding when the newest heartbeat cannot be read. The next one may be readable."""
    progress, limit_s = evidence.progress, evidence.patience.boot_s
    if progress is not None and progress.attempt == newest.attempt and progress.step:
        up_since, limit_s = progress.since, evidence.patience.stall_s
    quiet = (evidence.now - up_since).total_seconds() - _blind_s(evidence, newest)
    if quiet > limit_s:
        return _of_end(
            AttemptEnd.STALLED, f"no readable heartbeat for {quiet:.0f} s: {evidence.unreadable}"
        )
    return Finding(state=TrialState.RUNNING, reason=evidence.unreadable)


def _blind_s(evidence: Evidence, newest: Attempt) -> float:
    """How long AWS did not answer us since the newest attempt began, seconds."""
    progress = evidence.progress
    return progress.blind_s if progress and progress.attempt == newest.attempt else 0.0


def stall_limit_s(evidence: Evidence, beat: Heartbeat) -> float:
    """How long a step may stay the same: several segments, and at least the patience's floor."""
    patience = evidence.patience
    segment_s = evidence.segment_timesteps / beat.steps_per_s if beat.steps_per_s > 0 else 0.0
    floor_s = patience.waiting_s if beat.state is TrainerState.WAITING else patience.stall_s
    return max(floor_s, patience.stall_segments * segment_s)
