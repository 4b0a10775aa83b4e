"""The next action for a trial, decided from its evidence. A pure function: no clock, no network.

The caller observes the trial again after each action, so nothing is lost if it dies between two
actions.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from rl_lifecycle.errors import DEPLOY, NoPlaceError
from rl_lifecycle.machines.launch_requests import back_off_s, hours_used
from rl_lifecycle.machines.machine_attempts import Attempt, AttemptEnd
from rl_lifecycle.records.record import Record
from rl_lifecycle.trials.boot_faults import FIXES
from rl_lifecycle.trials.evidence import Evidence
from rl_lifecycle.trials.heartbeats import TrainerState
from rl_lifecycle.trials.states import LAST_WORDS, Finding, TrialState, diagnose


class ActionKind(StrEnum):
    """The kinds of action."""

    WAIT = "wait"  # until something changes, or until `at`
    # Adopt the machine of the newest attempt. If EC2 shows none, request it again with
    # the same token
    ASK = "ask"
    SETTLE = "settle"  # end the machine of the newest attempt, and record how it ended
    LAUNCH = "launch"  # write the next attempt and request its machine
    FINISH = "finish"  # the trial is trained
    FAIL = "fail"  # the trial is over, but it is not trained


class Action(Record):
    """One action, the finding that led to it, and the earliest time at which it may be done."""

    kind: ActionKind
    finding: Finding
    at: datetime | None = None

    def failed(self) -> Self:
        """The same action for a trial that has failed."""
        return self.model_copy(update={"finding": self.finding.failed()})


#: Advice for a person, for each end that stops the trial.
ADVICE = {
    AttemptEnd.CODE_FAILED: (
        "read the traceback in the machine's log, correct the experiment or "
        "its environment, trigger again"
    ),
    AttemptEnd.DIVERGED: (
        "the parameters became NaN: lower the learning rate or clip the gradient, trigger again"
    ),
    AttemptEnd.OUT_OF_MEMORY: (
        "choose compute.instance_types with more memory, or a smaller buffer or batch"
    ),
    AttemptEnd.DISK_FULL: "give the launch template a larger volume, or checkpoint less",
    AttemptEnd.DEADLINE: "raise compute.max_hours in the experiment, trigger again",
    AttemptEnd.REFUSED: "correct what AWS refuses and clear the task",
    AttemptEnd.CANCELLED: "trigger again when it is wanted",
}

#: The last message of a machine whose start script is of an earlier version. Such a script cannot
#: pass on the message of its trainer.
REFUSED_ITS_INPUT = "the trainer ended with exit status 2"


def decide_action(evidence: Evidence) -> Action:
    """Choose the next action for a trial's learner, which decides the trial."""
    finding, newest = diagnose(evidence), evidence.newest
    if newest is not None and newest.outcome.end is None:
        return decide_open_attempt(evidence, finding, newest)
    if finding.state is TrialState.FINISHED:
        return Action(kind=ActionKind.FINISH, finding=finding)
    if finding.state in (TrialState.FAILED, TrialState.CANCELLED) and not evidence.again:
        return Action(kind=ActionKind.FAIL, finding=with_advice(finding))
    if evidence.cancelled:
        return Action(
            kind=ActionKind.FAIL,
            finding=Finding(
                state=TrialState.CANCELLED, cause=AttemptEnd.CANCELLED, reason="cancelled"
            ),
        )
    if reason := why_give_up(evidence):
        failed = Finding(
            state=TrialState.FAILED, cause=finding.cause, reason=f"{reason}; last: {finding.reason}"
        )
        return Action(kind=ActionKind.FAIL, finding=failed)
    not_before = find_not_before(evidence.attempts)
    if not_before is not None and evidence.now < not_before:
        return Action(kind=ActionKind.WAIT, finding=finding, at=not_before)
    if evidence.no_place:
        most = evidence.compute.max_parallel
        waits = finding.with_reason(str(NoPlaceError(most))) if most is not None else finding
        return Action(kind=ActionKind.WAIT, finding=waits)
    return Action(kind=ActionKind.LAUNCH, finding=finding)


def decide_open_attempt(evidence: Evidence, finding: Finding, newest: Attempt) -> Action:
    """Choose the next action for a machine whose attempt is open."""
    if finding.cause is not None:
        return Action(
            kind=ActionKind.WAIT if speaks_still(evidence) else ActionKind.SETTLE, finding=finding
        )
    unanswered = finding.state is TrialState.LAUNCHING and evidence.beat is None
    if newest.outcome.instance_id is None and (evidence.machine is not None or unanswered):
        return Action(kind=ActionKind.ASK, finding=finding)
    return Action(kind=ActionKind.WAIT, finding=finding)


def speaks_still(evidence: Evidence) -> bool:
    """Whether the machine has reported its end and still uploads its log."""
    beat, machine = evidence.beat, evidence.machine
    if (
        beat is None
        or beat.state not in LAST_WORDS
        or machine is None
        or not machine.state.alive
        or evidence.cancelled
    ):
        return False
    patience = (
        evidence.patience.farewell_s
        if beat.state is TrainerState.FINISHED
        else evidence.patience.last_words_s
    )
    return (evidence.now - beat.at).total_seconds() < patience


def find_not_before(attempts: Sequence[Attempt]) -> datetime | None:
    """Find when the next machine may be requested at the earliest; None if at any time."""
    ended_at = attempts[-1].outcome.ended_at if attempts else None
    return ended_at + timedelta(seconds=back_off_s(attempts)) if ended_at is not None else None


def why_give_up(evidence: Evidence) -> str:
    """Explain why another machine would not help. The text is empty if it may help."""
    used, most = hours_used(evidence.attempts), evidence.compute.max_hours
    if used >= most:
        return f"compute.max_hours {most:g} are used up"
    since = waiting_since(evidence)
    if since is not None and evidence.now - since > timedelta(hours=most):
        return f"no machine was to be had within compute.max_hours {most:g}"
    ran = [
        attempt
        for attempt in evidence.attempts
        if attempt.outcome.end is not AttemptEnd.NO_CAPACITY
    ]
    limit = evidence.patience.attempts_without_progress
    last = ran[-limit:]
    if len(last) == limit and not _progressed(ran, limit):
        return f"{limit} machines in a row ended without a new checkpoint"
    return ""


def waiting_since(evidence: Evidence) -> datetime | None:
    """When the trial began to wait for a machine: when the last machine that it got had ended.

    :return: None if there is no attempt yet, or if a person requested one more attempt.
    """
    if evidence.again or not evidence.attempts:
        return None
    had = [
        attempt.outcome.ended_at
        for attempt in evidence.attempts
        if attempt.outcome.end is not AttemptEnd.NO_CAPACITY
        and attempt.outcome.ended_at is not None
    ]
    return had[-1] if had else evidence.attempts[0].created_at


def _progressed(ran: Sequence[Attempt], limit: int) -> bool:
    """Whether one of the last machines committed a later step than the machines before them."""
    before = ran[-limit - 1].outcome.committed_step if len(ran) > limit else 0
    return any((attempt.outcome.committed_step or 0) > (before or 0) for attempt in ran[-limit:])


def with_advice(finding: Finding) -> Finding:
    """Add to a failure what a person should do."""
    advice = ADVICE.get(finding.cause) if finding.cause is not None else None
    if finding.reason.endswith(REFUSED_ITS_INPUT):
        advice = (
            "it refused its arguments or its spec, as one of another version does: read the "
            f"machine's log, and if you upgraded Nightshift, {DEPLOY}"
        )
    if not advice or finding.reason.endswith((DEPLOY, *FIXES.values())):
        return finding
    return finding.with_reason(f"{finding.reason}; {advice}")
