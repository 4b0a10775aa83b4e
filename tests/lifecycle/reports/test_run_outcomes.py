"""The rule that says when a run is red, and what its verdict says first."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_lifecycle.evaluation.verdicts import Decision
from rl_lifecycle.reports.run_outcomes import (
    NEVER_SKIPPED,
    RULE,
    STEPS,
    TRIAL_STEPS,
    CauseKind,
    RunFacts,
    RunStep,
    decide_outcome,
)
from tests.conftest import ROOT

TRIALS = ("seed-0", "seed-1")


def steps(**changed: Any) -> tuple[RunStep, ...]:
    """The steps of a run that succeeded, with some changed.

    :param changed: `judge={...}` changes a step, `await_1={...}` the step of a trial.
    """
    made = []
    for task_id in STEPS:
        for index, trial in enumerate(TRIALS) if task_id in TRIAL_STEPS else ((-1, None),):
            name = task_id if index < 0 else f"{task_id}_{index}"
            facts = {"task_id": task_id, "trial": trial, "state": "success"}
            made.append(RunStep.model_validate(facts | changed.get(name, {})))
    return tuple(made)


def facts(changed: dict[str, Any] | None = None, **values: Any) -> RunFacts:
    """The facts of a run that promoted its candidate, with some changed."""
    fine: dict[str, Any] = {
        "steps": steps(**(changed or {})),
        "trials": TRIALS,
        "attempts": dict.fromkeys(TRIALS, 1),
        "candidate": "d1",
        "selected_from": TRIALS,
        "decision": Decision.PROMOTE,
        "reason": "better",
        "judged": "d1",
        "promotion": "PROMOTED",
        "promoted": "d1",
        "proved": dict.fromkeys(TRIALS, 1),
        "instances_left": (),
    }
    return RunFacts.model_validate(fine | values)


FAILED = {"state": "failed", "problem": "boom"}
KILLED = {"state": "failed"}
SKIPPED = {"state": "skipped"}
ONE_LEFT: dict[str, Any] = {"attempts": {"seed-0": 1}, "selected_from": ("seed-0",)}
NOTHING: dict[str, Any] = {
    "attempts": {},
    "candidate": None,
    "selected_from": None,
    "decision": None,
    "judged": None,
    "promotion": None,
    "promoted": None,
}
KEPT = {"decision": "KEEP", "promotion": None, "promoted": None}
BY = {"ended_by": "ada at 2026-11-30 02:04 UTC"}
RUN_ENDED = {"await_0": KILLED, "await_1": KILLED} | dict.fromkeys(
    (*NEVER_SKIPPED, "promote"), SKIPPED
)

#: What happened, the kind of the first cause, and how the text begins.
CASES: tuple[tuple[RunFacts, CauseKind | None, str], ...] = (
    (facts(), None, "PROMOTE: better"),
    (facts({"promote": SKIPPED}, **KEPT), None, "KEEP: better"),
    (facts({"check_environment": FAILED}, **NOTHING), CauseKind.TASK_FAILED, "check_environment f"),
    (facts({"freeze_spec": FAILED}, **NOTHING, trials=()), CauseKind.TASK_FAILED, "freeze_spec f"),
    (facts({"launch_1": FAILED}, **ONE_LEFT), CauseKind.TRIAL_FAILED, "seed-1: boom"),
    (
        facts({"await_1": KILLED}, **ONE_LEFT),
        CauseKind.TRIAL_FAILED,
        "seed-1: the task await left no reason",
    ),
    (facts({"await_1": KILLED | BY}, **ONE_LEFT), CauseKind.TRIAL_CANCELLED, "PROMOTE: better; se"),
    (facts({"await_1": SKIPPED}, **ONE_LEFT), CauseKind.TRIAL_CANCELLED, "PROMOTE: better; seed-1"),
    (
        facts({"await_0": KILLED | BY, "await_1": KILLED | BY, "select": FAILED}, **NOTHING),
        CauseKind.TRIAL_CANCELLED,
        "seed-0 was cancelled by ada at 2026-11-30 02:04 UTC; seed-1 was",
    ),
    (facts(RUN_ENDED, **NOTHING, **BY), CauseKind.RUN_CANCELLED, "the run was ended by ada at 20"),
    (facts(RUN_ENDED, **NOTHING), CauseKind.RUN_CANCELLED, "the run was ended by a person; as a"),
    (
        facts({"promote": KILLED}, promotion=None, promoted=None, **BY),
        CauseKind.RUN_CANCELLED,
        "the run was ended by ada at 20",
    ),
    (facts({"judge": KILLED | BY}, **KEPT), CauseKind.RUN_CANCELLED, "judge was ended by ada at 2"),
    (
        facts(RUN_ENDED, **NOTHING | {"instances_left": ("i-1",)}),
        CauseKind.RUN_CANCELLED,
        "the run was ended by a person; instances left: i-1",
    ),
    (
        facts(not_evaluated=("seed-1 at step 500: no ONNX file",)),
        CauseKind.NOT_EVALUATED,
        "seed-1 at step 500: no ONNX file",
    ),
    (
        facts({"promote": SKIPPED}, **KEPT | {"decision": "INCONCLUSIVE"}, broken=True),
        CauseKind.EVALUATION_BROKEN,
        "INCONCLUSIVE: better",
    ),
    (facts(selected_from=("seed-0",)), CauseKind.OUT_OF_DATE, "select did not know that seed-1"),
    (facts(judged="d0"), CauseKind.OUT_OF_DATE, "judge knew another candidate"),
    (facts(promoted="d0"), CauseKind.OUT_OF_DATE, "promote knew another candidate"),
    (facts(attempts={"seed-0": 1, "seed-1": 2}), CauseKind.OUT_OF_DATE, "seed-1 had another mach"),
    (facts(promotion=None), CauseKind.NOT_PROMOTED, "the candidate was judged better, and was not"),
    (facts({"promote": FAILED}, promotion=None), CauseKind.TASK_FAILED, "promote failed: boom; as"),
    (facts(instances_left=None), CauseKind.MACHINES_LEFT, "it is not proved that no machine"),
    (facts(instances_left=("i-1",)), CauseKind.MACHINES_LEFT, "instances left: i-1"),
    (facts({"report": FAILED}), CauseKind.TASK_FAILED, "report failed: boom; decision: PROMOTE"),
    (facts(**NOTHING | {"attempts": {"seed-0": 1}}), CauseKind.TASK_FAILED, "seed-1 did not end"),
)


@pytest.mark.parametrize(("run", "kind", "begins"), CASES)
def test_the_first_cause_comes_first(run: RunFacts, kind: CauseKind | None, begins: str) -> None:
    """The kind of the cause decides the colour and the notice."""
    outcome = decide_outcome(run)
    assert outcome.text.startswith(begins), outcome.text
    assert (outcome.causes[0].kind if outcome.causes else None) == kind
    if kind is CauseKind.TRIAL_CANCELLED:
        assert outcome.red == (not run.attempts)
        assert outcome.notice is None
    elif kind is None:
        assert (outcome.red, outcome.notice) == (False, None)
    else:
        left = any(one.kind is CauseKind.MACHINES_LEFT for one in outcome.causes)
        assert outcome.red == RULE[kind].red
        assert outcome.notice == ("failed" if left else RULE[kind].notice)


def test_every_kind_of_cause_is_in_a_case() -> None:
    """A new kind needs a case."""
    seen = {one.kind for run, _, _ in CASES for one in decide_outcome(run).causes}
    assert seen == set(CauseKind) == set(RULE)


states = st.sampled_from(["success", "failed", "skipped", "upstream_failed", "removed", None])


@given(data=st.data())
def test_whatever_happened_a_run_without_its_results_is_red(data: st.DataObject) -> None:
    """A green run has a verdict, a proof, and a promotion if the verdict says so."""
    changed = {
        name: {"state": data.draw(states), "problem": data.draw(st.sampled_from(["", "boom"]))}
        for name in ("launch_0", "await_0", "await_1", *STEPS)
        if name not in TRIAL_STEPS
    }
    missing = {
        name: value
        for name, value in {**NOTHING, "instances_left": None, "trials": ()}.items()
        if data.draw(st.booleans())
    }
    run = facts(changed, **missing)
    outcome = decide_outcome(run)
    assert outcome.text
    if outcome.red:
        assert outcome.text.startswith(outcome.causes[0].text)
        by_hand = {CauseKind.RUN_CANCELLED, CauseKind.TRIAL_CANCELLED}
        assert outcome.notice or by_hand & {one.kind for one in outcome.causes}
    else:
        assert run.decision is not None
        assert run.instances_left == ()
        assert run.decision is not Decision.PROMOTE or run.promotion is not None


def test_the_guide_shows_the_rule() -> None:
    """The table in docs/guide.md has a row for each kind, with its colour and its notice."""
    guide = (ROOT / "docs/guide.md").read_text()
    rows = re.findall(r"^\| .* \| (red|green) \| (`\w+`|none) \| `(\w+)` \|$", guide, re.M)
    assert {kind: (colour, notice.strip("`")) for colour, notice, kind in rows} == {
        kind.value: ("red" if ruling.red else "green", ruling.notice or "none")
        for kind, ruling in RULE.items()
    }


def test_a_trial_is_named_once() -> None:
    """A person who skips a trial's first task skips its others, too."""
    skipped = {"launch_1": SKIPPED, "await_1": SKIPPED}
    assert decide_outcome(facts(skipped, **ONE_LEFT)).text.count("seed-1 was cancelled") == 1
