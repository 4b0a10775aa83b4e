"""The rule that says when a run is red, who is told, and what its verdict says first.

A pure function: the facts of a run go in, the outcome comes out. The table :data:`RULE` is the
whole rule, and docs/guide.md shows it.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from rl_lifecycle.evaluation.verdicts import Decision
from rl_lifecycle.records.record import Record

#: The steps of a run before its verdict, in their order. These are the task ids of the DAG.
STEPS = (
    "freeze_spec",
    "check_environment",
    "launch",
    "await",
    "select",
    "judge",
    "approve",
    "promote",
    "terminate",
    "report",
)
#: The steps that every trial has.
TRIAL_STEPS = ("launch", "await")
#: The steps that a run skips only if a person ended it, apart from `promote`.
NEVER_SKIPPED = ("select", "judge", "approve")
#: How many names a sentence lists.
MOST_NAMES = 5


class CauseKind(StrEnum):
    """What may happen to a run."""

    RUN_CANCELLED = "run_cancelled"
    TRIAL_CANCELLED = "trial_cancelled"
    TASK_FAILED = "task_failed"
    TRIAL_FAILED = "trial_failed"
    NOT_EVALUATED = "not_evaluated"
    EVALUATION_BROKEN = "evaluation_broken"
    OUT_OF_DATE = "out_of_date"
    NOT_PROMOTED = "not_promoted"
    MACHINES_LEFT = "machines_left"


class Ruling(NamedTuple):
    """What one thing that happened means for the run.

    :param red: whether the run is red.
    :param notice: the event of the notice; None if no notice is sent.
    :param though_cancelled: whether the notice is sent even if a person ended the run.
    """

    red: bool
    notice: str | None
    though_cancelled: bool = False


#: The rule. A run is green if nothing in this table happened to it, or only what is not red.
RULE: Mapping[CauseKind, Ruling] = {
    CauseKind.RUN_CANCELLED: Ruling(red=True, notice=None),
    CauseKind.TRIAL_CANCELLED: Ruling(red=False, notice=None),
    CauseKind.TASK_FAILED: Ruling(red=True, notice="failed"),
    CauseKind.TRIAL_FAILED: Ruling(red=True, notice="failed"),
    CauseKind.NOT_EVALUATED: Ruling(red=True, notice="failed"),
    CauseKind.EVALUATION_BROKEN: Ruling(red=True, notice="inconclusive"),
    CauseKind.OUT_OF_DATE: Ruling(red=True, notice="failed"),
    CauseKind.NOT_PROMOTED: Ruling(red=True, notice="failed"),
    CauseKind.MACHINES_LEFT: Ruling(red=True, notice="failed", though_cancelled=True),
}


class RunStep(Record):
    """One task of a run, as Airflow has it.

    :param problem: the message of the error that failed it; empty if it left none.
    :param ended_by: who ended it by hand, and when; empty if no person is known to have ended it.
    """

    task_id: str
    trial: str | None = None
    state: str | None = None
    problem: str = ""
    ended_by: str = ""


class RunFacts(Record):
    """What is known about a run when its last task begins.

    A result counts only if its task succeeded. Otherwise it may be from before a clear.

    :param trials: the names of the trials; empty if the spec was not frozen.
    :param attempts: trial → the number of machines that it had. Only finished trials.
    :param selected_from: the finished trials that `select` knew; None if it did not say.
    :param not_evaluated: the policies that could not be evaluated, with the reason.
    :param broken: whether too many episodes were lost for a verdict.
    :param lost: the lost episodes of each policy: seeds and reasons.
    :param proved: trial → the number of machines when `terminate` proved that none is left.
    :param instances_left: the machines that `terminate` left; None if it proved nothing.
    :param ended_by: who ended the whole run by hand, and when.
    """

    steps: tuple[RunStep, ...] = ()
    trials: tuple[str, ...] = ()
    attempts: dict[str, int] = {}
    candidate: str | None = None
    selected_from: tuple[str, ...] | None = None
    not_evaluated: tuple[str, ...] = ()
    decision: Decision | None = None
    reason: str = ""
    judged: str | None = None
    broken: bool = False
    lost: tuple[str, ...] = ()
    promotion: str | None = None
    promotion_reason: str = ""
    promoted: str | None = None
    proved: dict[str, int] = {}
    instances_left: tuple[str, ...] | None = None
    ended_by: str = ""

    def state_of(self, task_id: str) -> str | None:
        """Return the state of a task that is not a trial's."""
        return next((step.state for step in self.steps if step.task_id == task_id), None)

    @property
    def was_ended(self) -> bool:
        """Whether a person ended the whole run: then Airflow skips the tasks that had not begun."""
        if self.ended_by:
            return True
        if any(self.state_of(task_id) == "skipped" for task_id in NEVER_SKIPPED):
            return True
        return self.state_of("promote") == "skipped" and self.decision in (None, Decision.PROMOTE)


class Cause(NamedTuple):
    """One thing that happened to a run.

    :param task_id: the step at which it happened.
    :param trial: the trial to which it happened; empty: to the run.
    """

    kind: CauseKind
    task_id: str
    text: str
    trial: str = ""


class RunOutcome(NamedTuple):
    """The outcome of a run.

    :param notice: the event of the notice; None if no notice is sent.
    :param text: one line. It begins with the first cause if the run is red.
    """

    red: bool
    notice: str | None
    text: str
    causes: tuple[Cause, ...] = ()


def decide_outcome(facts: RunFacts) -> RunOutcome:
    """Apply :data:`RULE` to what happened in a run."""
    found = (
        *_cancelled(facts),
        *_failed(facts),
        *_unevaluated(facts),
        *_unpromoted(facts),
        *_out_of_date(facts),
        *_left(facts),
    )
    # The order of the steps is the order of cause and consequence. A person's decision comes first.
    causes = sorted(
        found, key=lambda one: (one.kind is not CauseKind.RUN_CANCELLED, STEPS.index(one.task_id))
    )
    missing = _missing(facts, {one.trial for one in causes})
    explained = any(
        RULE[one.kind].red or (one.kind is CauseKind.TRIAL_CANCELLED and not facts.attempts)
        for one in causes
    )
    if missing and not explained:
        task_id, text = missing.pop(0)
        causes.append(Cause(CauseKind.TASK_FAILED, task_id, text))
    return _outcome(facts, tuple(causes), [text for _, text in missing])


def _outcome(facts: RunFacts, causes: tuple[Cause, ...], missing: list[str]) -> RunOutcome:
    said = "; ".join(one.text for one in causes)
    if not missing and not any(RULE[one.kind].red for one in causes):
        return RunOutcome(False, None, "; ".join(filter(None, (_decided(facts), said))), causes)
    cancelled = any(one.kind is CauseKind.RUN_CANCELLED for one in causes)
    rulings = [RULE[one.kind] for one in causes]
    notices = [one.notice for one in rulings if one.though_cancelled or not cancelled]
    followed = missing and f"as a result: {', '.join(missing)}"
    decided = facts.decision and not facts.broken and f"decision: {_decided(facts)}"
    text = "; ".join(part for part in (said, followed, decided) if part)
    return RunOutcome(True, next(filter(None, notices), None), text, causes)


def _decided(facts: RunFacts) -> str:
    told = f"{facts.decision}: {facts.reason}"
    if facts.decision is not Decision.PROMOTE or facts.promotion in (None, "PROMOTED"):
        return told
    return f"{told}; not put into service: {facts.promotion_reason or facts.promotion}"


def _cancelled(facts: RunFacts) -> Iterable[Cause]:
    if facts.was_ended:
        step = next((one for one in facts.steps if one.state in ("failed", "skipped")), None)
        by = facts.ended_by or (step.ended_by if step else "") or "a person"
        yield Cause(
            CauseKind.RUN_CANCELLED,
            step.task_id if step else STEPS[-1],
            f"the run was ended by {by}",
        )


def _failed(facts: RunFacts) -> Iterable[Cause]:
    """The steps that failed by themselves, and the trials that a person ended."""
    skipped = set[str]()
    for step in facts.steps:
        by_hand = bool(step.ended_by) or (facts.was_ended and not step.problem)
        if step.state == "skipped" and step.task_id in TRIAL_STEPS and not facts.was_ended:
            if (step.trial or "") not in skipped:
                yield _cancelled_trial(step)
            skipped.add(step.trial or "")
        if step.state != "failed" or (step.task_id == "select" and not facts.attempts):
            continue  # without a finished trial, `select` has nothing to choose from
        if by_hand and facts.was_ended:
            continue  # the person who ended the run ended this step, too
        if step.trial is not None:
            yield (
                _cancelled_trial(step)
                if by_hand
                else Cause(CauseKind.TRIAL_FAILED, step.task_id, _named(step), step.trial)
            )
        elif by_hand:
            text = f"{step.task_id} was ended by {step.ended_by}"
            yield Cause(CauseKind.RUN_CANCELLED, step.task_id, text)
        else:
            yield Cause(CauseKind.TASK_FAILED, step.task_id, _named(step))


def _cancelled_trial(step: RunStep) -> Cause:
    text = f"{step.trial} was cancelled by {step.ended_by or 'a person'}"
    return Cause(CauseKind.TRIAL_CANCELLED, step.task_id, text, step.trial or "")


def _named(step: RunStep) -> str:
    """Name a failed step with its problem, without the trial's name twice."""
    problem = step.problem or (
        f"the task {step.task_id} left no reason: it was killed, a person marked it as failed, or "
        "it could not begin; see its log, or the scheduler's"
    )
    if step.trial is None:
        return f"{step.task_id} failed: {problem}"
    return problem if problem.startswith(step.trial) else f"{step.trial}: {problem}"


def _unevaluated(facts: RunFacts) -> Iterable[Cause]:
    for text in facts.not_evaluated:
        yield Cause(CauseKind.NOT_EVALUATED, "select", f"{text}: it was not evaluated")
    if facts.broken:
        text = "; ".join((f"{facts.decision}: {facts.reason}", *facts.lost))
        yield Cause(CauseKind.EVALUATION_BROKEN, "judge", text)


def _unpromoted(facts: RunFacts) -> Iterable[Cause]:
    if (
        facts.decision is Decision.PROMOTE
        and facts.promotion is None
        and not facts.was_ended
        and facts.state_of("promote") in ("success", "skipped", None)
    ):
        text = "the candidate was judged better, and was not promoted (see the task promote)"
        yield Cause(CauseKind.NOT_PROMOTED, "promote", text)


def _out_of_date(facts: RunFacts) -> Iterable[Cause]:
    """Results that are older than what they were made from, after a clear of single tasks."""
    late = [
        trial
        for trial in facts.attempts
        if facts.selected_from is not None and trial not in facts.selected_from
    ]
    if late:
        text = f"select did not know that {_listed(late)} finished: clear it with what follows it"
        yield Cause(CauseKind.OUT_OF_DATE, "select", text)
    for digest, task_id in ((facts.judged, "judge"), (facts.promoted, "promote")):
        if facts.candidate and digest and digest != facts.candidate:
            text = f"{task_id} knew another candidate than select: clear it with what follows it"
            yield Cause(CauseKind.OUT_OF_DATE, task_id, text)
    newer = [
        trial
        for trial, attempts in facts.attempts.items()
        if attempts > facts.proved.get(trial, attempts)
    ]
    if newer:
        text = f"{_listed(newer)} had another machine after terminate: clear terminate"
        yield Cause(CauseKind.OUT_OF_DATE, "terminate", text)


def _left(facts: RunFacts) -> Iterable[Cause]:
    if facts.instances_left is None:
        text = "it is not proved that no machine is left (see the task terminate)"
        yield Cause(CauseKind.MACHINES_LEFT, "terminate", text)
    elif facts.instances_left:
        text = f"instances left: {', '.join(facts.instances_left)}"
        yield Cause(CauseKind.MACHINES_LEFT, "terminate", text)


def _missing(facts: RunFacts, named: set[str]) -> list[tuple[str, str]]:
    """The required results that are missing: the step that makes each, and a text.

    :param named: the trials that a cause names.
    """
    missing = []
    if not facts.trials:
        missing.append(("freeze_spec", "the frozen spec is missing (see the task freeze_spec)"))
    untrained = [one for one in facts.trials if one not in facts.attempts and one not in named]
    if untrained:
        missing.append(("await", f"{_listed(untrained)} did not end the training (see its tasks)"))
    if facts.candidate is None:
        missing.append(("select", "the candidate is missing (see the task select)"))
    if facts.decision is None:
        missing.append(("judge", "the verdict is missing (see the task judge)"))
    if (
        facts.decision is Decision.PROMOTE
        and facts.promotion is None
        and facts.state_of("promote") in ("failed", "upstream_failed")
    ):
        missing.append(("promote", "the candidate was judged better, and was not promoted"))
    return missing


def _listed(names: Iterable[str]) -> str:
    """List some names.

    >>> _listed(["seed-0"]), _listed(f"seed-{n}" for n in range(7))
    ('seed-0', 'seed-0, seed-1, seed-2, seed-3, seed-4 and 2 others')
    """
    known = list(names)
    more = len(known) - MOST_NAMES
    return ", ".join(known[:MOST_NAMES]) + (f" and {more} others" if more > 0 else "")
