"""The next action for each machine of a trial with several machines. Pure functions.

The learner (seat 0) decides the trial. The other machines only collect: one of them is replaced by
itself when it is lost, and all of them end with the trial. A trial with one machine has one seat.
"""

from datetime import timedelta
from typing import NamedTuple

from rl_lifecycle.machines.machine_attempts import Attempt, AttemptEnd
from rl_lifecycle.storage.layout import LEARNER_SEAT
from rl_lifecycle.trials.actions import (
    Action,
    ActionKind,
    decide_action,
    decide_open_attempt,
    find_not_before,
    speaks_still,
    waiting_since,
    with_advice,
)
from rl_lifecycle.trials.evidence import Evidence
from rl_lifecycle.trials.launch_plans import has_collected
from rl_lifecycle.trials.states import Finding, TrialState, diagnose

#: Ends of a collector that fail the trial, because the learner runs the same code.
FATAL = frozenset(
    {
        AttemptEnd.CODE_FAILED,
        AttemptEnd.DIVERGED,
        AttemptEnd.OUT_OF_MEMORY,
        AttemptEnd.DISK_FULL,
    }
)
#: Ends that say nothing about whether a collector can work.
NO_TRY = frozenset({AttemptEnd.NO_CAPACITY, AttemptEnd.CANCELLED, AttemptEnd.DEADLINE})
#: What a worker does. With the other kinds it waits, or the trial is over.
DOABLE = frozenset({ActionKind.ASK, ActionKind.SETTLE, ActionKind.LAUNCH})
OVER = frozenset({ActionKind.FINISH, ActionKind.FAIL})


class SeatAction(NamedTuple):
    """The next action for one machine of a trial."""

    seat: int
    action: Action


def decide_seats(evidence: Evidence) -> tuple[SeatAction, ...]:
    """Choose the next action for each machine of a trial, the learner first.

    The learner's action is FINISH or FAIL only when all other machines have ended, too.
    """
    trial = _decide_learner(evidence)
    others = tuple(
        SeatAction(seat, _decide_collector(evidence.at_seat(seat), evidence, trial))
        for seat in evidence.seats[1:]
    )
    if trial.kind in OVER and any(_is_open(evidence.at_seat(seat)) for seat, _ in others):
        trial = Action(kind=ActionKind.WAIT, finding=trial.finding)
    return (SeatAction(LEARNER_SEAT, trial), *others)


def next_step(actions: tuple[SeatAction, ...]) -> SeatAction | None:
    """Choose what a worker does next; None if there is nothing to do."""
    return next((one for one in actions if one.action.kind in DOABLE), None)


def needs_worker(evidence: Evidence) -> bool:
    """Whether a worker has something to do for the trial, or the trial is over."""
    return any(one.action.kind is not ActionKind.WAIT for one in decide_seats(evidence))


def find_fatal(evidence: Evidence) -> tuple[int, Finding] | None:
    """Find a collector whose failure fails the trial: its seat, and the finding.

    A failure before the learner's present machine does not count, because a person has asked for
    one more attempt since then.
    """
    learner = evidence.newest
    for seat in evidence.seats[1:]:
        newest = evidence.at_seat(seat).newest
        if newest is None or newest.outcome.end not in FATAL or learner is None:
            continue
        ended_at = newest.outcome.ended_at
        if ended_at is not None and ended_at >= learner.created_at:
            reason = f"machine {seat}: {newest.outcome.reason}"
            return seat, Finding(state=TrialState.FAILED, cause=newest.outcome.end, reason=reason)
    return None


def why_given_up(evidence: Evidence, seat: int) -> str:
    """Explain why a collector is not replaced any more. The text is empty if it is.

    Only the time of the learner's present machine counts. The next one may be somewhere else, or a
    person may have asked for it.

    :param evidence: that of the whole trial.
    """
    learner, own = evidence.newest, evidence.at_seat(seat)
    if learner is None:
        return ""
    limit = evidence.patience.attempts_without_progress
    tried = [
        one
        for one in own.attempts
        if one.outcome.end not in NO_TRY and one.created_at >= learner.created_at
    ]
    last = tried[-limit:]
    if len(last) < limit or any(one.outcome.end is None or has_collected(own, one) for one in last):
        return ""
    return (
        f"{limit} machines in a row ended without having collected, so the trial goes on without "
        f"this one; last: {last[-1].outcome.reason}"
    )


def _decide_learner(evidence: Evidence) -> Action:
    """Choose the next action for the learner, whose trial a collector may have failed."""
    action, fatal = decide_action(evidence), find_fatal(evidence)
    if fatal is None or evidence.again or action.finding.state is TrialState.FINISHED:
        return action
    if action.kind in OVER or action.kind is ActionKind.SETTLE or speaks_still(evidence):
        return action
    if _is_open(evidence):
        return Action(kind=ActionKind.SETTLE, finding=fatal[1])
    return Action(kind=ActionKind.FAIL, finding=with_advice(fatal[1]))


def _decide_collector(evidence: Evidence, trial: Evidence, learner: Action) -> Action:
    """Choose the next action for a machine that only collects.

    :param evidence: that of its seat.
    :param trial: that of the whole trial.
    :param learner: the learner's next action.
    """
    finding, newest = diagnose(evidence), evidence.newest
    if newest is not None and newest.outcome.end is None:
        ended = _why_ended(evidence, trial, learner)
        if ended is None or (finding.cause is not None and learner.kind is not ActionKind.FINISH):
            return decide_open_attempt(evidence, finding, newest)
        kind = ActionKind.WAIT if speaks_still(evidence) else ActionKind.SETTLE
        return Action(kind=kind, finding=ended)
    if learner.kind is not ActionKind.WAIT or not _can_join(newest, trial, learner):
        return Action(kind=ActionKind.WAIT, finding=finding)
    if reason := why_given_up(trial, evidence.seat):
        given_up = Finding(state=TrialState.FAILED, cause=finding.cause, reason=reason)
        return Action(kind=ActionKind.WAIT, finding=given_up)
    not_before = find_not_before(evidence.attempts)
    if not_before is not None and evidence.now < not_before:
        return Action(kind=ActionKind.WAIT, finding=finding, at=not_before)
    kind = ActionKind.WAIT if evidence.no_place or evidence.held else ActionKind.LAUNCH
    return Action(kind=kind, finding=finding)


def _can_join(newest: Attempt | None, trial: Evidence, learner: Action) -> bool:
    """Whether another collector would help: the learner has a machine that trains on.

    A collector also says that it has finished when the learner has failed. If a person then asks
    for one more attempt, the learner's new machine needs collectors again.
    """
    machine = trial.newest
    if machine is None or machine.outcome.end is not None or machine.outcome.instance_id is None:
        return False
    if learner.finding.cause is not None or trial.now >= machine.deadline_at:
        return False
    if newest is None or newest.outcome.end is not AttemptEnd.FINISHED:
        return True
    return newest.created_at < machine.created_at


def _why_ended(evidence: Evidence, trial: Evidence, learner: Action) -> Finding | None:
    """Find why a machine that works must end; None if it goes on."""
    if learner.kind is ActionKind.FINISH:
        return Finding(
            state=TrialState.FINISHED,
            cause=AttemptEnd.FINISHED,
            reason=f"the trial is over: {learner.finding.reason}",
        )
    if learner.kind is ActionKind.FAIL:
        return _cancelled(f"the trial is over: {learner.finding.reason}")
    machine, since = trial.newest, waiting_since(trial)
    if machine is not None and machine.outcome.end is None and machine.outcome.instance_id:
        return None
    idle_s = evidence.patience.idle_s
    if since is not None and evidence.now - since > timedelta(seconds=idle_s):
        return _cancelled(f"the learner has had no machine for {idle_s:.0f} s")
    return None


def _cancelled(reason: str) -> Finding:
    return Finding(state=TrialState.CANCELLED, cause=AttemptEnd.CANCELLED, reason=reason)


def _is_open(evidence: Evidence) -> bool:
    newest = evidence.newest
    return newest is not None and newest.outcome.end is None
