"""The last task of a run: what it reads, what it says first, and whom it tells."""

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from rl_airflow.errors import EvaluationFailedError, RunIsRedError
from rl_airflow.run import notices
from rl_airflow.run.notes import NOTE_KEY
from rl_airflow.run.notices import SnsRunNotifier
from rl_airflow.run.outcome_operators import VerdictOperator
from rl_airflow.run.task_facts import keep_problem
from rl_lifecycle.reports.run_outcomes import STEPS
from tests.plugins.worlds import World

END = {
    "trial": "seed-0",
    "state": "finished",
    "steps": 1,
    "attempts": 1,
    "seconds": 1.0,
    "usd": 0.0,
}
OTHER = {**END, "trial": "seed-1"}
XCOMS: dict[Any, Any] = {
    "freeze_spec": ["seed-0", "seed-1"],
    "select": {"digest": "d1", "trials": ["seed-0", "seed-1"]},
    "promote": {"outcome": "PROMOTED", "digest": "d1"},
    "judge": {"decision": "PROMOTE", "reason": "better", "candidate": "d1"},
    "terminate": {"instances_left": [], "attempts": {"seed-0": 1, "seed-1": 1}},
    "report": {"usd": 0.5, "budget_usd": 2},
    ("await", "trial_end"): [END, OTHER],
}
STATES = {
    **dict.fromkeys((step for step in STEPS if step not in ("launch", "await")), "success"),
    **dict.fromkeys(("launch_0", "launch_1", "await_0", "await_1"), "success"),
}


COST = "\ncost 0.5000 USD of 2 USD allowed"
#: The notes that the last task kept.
notes: list[str] = []


class FakeTi:
    """XComs by task and key, and the states of the run's tasks."""

    task_id = "verdict"

    def __init__(self, xcoms: dict[Any, Any], states: dict[str, str]) -> None:
        self.xcoms, self.states = xcoms, states
        self.pushed: dict[str, Any] = {}

    def xcom_pull(self, task_ids: str, key: str = "return_value", map_indexes: Any = None) -> Any:
        """Return the XCom."""
        if key == "return_value":
            return self.xcoms.get(task_ids)
        place = (task_ids, key) if map_indexes in (None, -1) else (task_ids, key, map_indexes)
        return self.xcoms.get(place)

    def xcom_push(self, key: str, value: Any) -> None:
        """Store the XCom."""
        self.pushed[key] = value
        if key == NOTE_KEY:
            notes.append(value)

    def get_task_states(self, dag_id: str, run_ids: list[str]) -> dict[str, Any]:
        """Return the states of the run, as Airflow does."""
        assert dag_id == "retrain_x"
        return {run_ids[0]: self.states}


@pytest.fixture(autouse=True)
def no_notes() -> None:
    """No note was kept before the test."""
    notes.clear()


def context(xcoms: dict[Any, Any], states: dict[str, str]) -> Any:
    """Return the context of the last task."""
    run = SimpleNamespace(dag_id="retrain_x", run_id="night-1")
    return {"ti": FakeTi({**XCOMS, **xcoms}, {**STATES, **states}), "dag_run": run}


def verdict(xcoms: dict[Any, Any] | None = None, states: dict[str, str] | None = None) -> str:
    """Run the last task."""
    return VerdictOperator(task_id="verdict").execute(context(xcoms or {}, states or {}))


def red(xcoms: dict[Any, Any] | None = None, states: dict[str, str] | None = None) -> RunIsRedError:
    """Run the last task of a red run. :return: its error."""
    with pytest.raises(RunIsRedError) as failed:
        verdict(xcoms, states)
    return failed.value


def test_a_run_that_did_all_that_was_required_is_green() -> None:
    """KEEP and a superseded promotion are successful ends, too."""
    assert verdict() == "PROMOTE: better"
    keep = {"judge": {"decision": "KEEP", "reason": "worse"}, "promote": None}
    assert verdict(keep, {"promote": "skipped"}) == "KEEP: worse"
    moved = {"outcome": "SUPERSEDED", "reason": "the champion changed", "digest": "d0"}
    assert verdict({"promote": moved}).endswith("not put into service: the champion changed")
    one = {("await", "trial_end"): END, "freeze_spec": ["seed-0"]}  # Airflow returns the value
    one["select"] = {"digest": "d1", "trials": ["seed-0"]}
    assert verdict(one)
    assert notes[:2] == [f"PROMOTE: better{COST}", f"KEEP: worse{COST}"]


def test_a_night_of_an_earlier_version_ends_as_it_would_have() -> None:
    """Its tasks left results without the newer keys."""
    old = {
        "select": {"trial": "seed-0", "digest": "d1"},
        "judge": {"decision": "PROMOTE", "reason": "better"},
        "terminate": {"instances_left": []},
    }
    assert verdict(old) == "PROMOTE: better"


def test_a_failed_check_of_the_environment_comes_first() -> None:
    """What follows from it comes after it, in the error and in the note."""
    problem = "experiments/x.yaml: env_id: the space is a Dict"
    states = dict.fromkeys(("launch", "await", "judge", "approve", "promote"), "upstream_failed")
    for step in ("launch_0", "launch_1", "await_0", "await_1"):
        states[step] = "removed"
    xcoms: dict[Any, Any] = {
        ("check_environment", "problem"): problem,
        ("select", "problem"): "no trial finished its training",
        ("await", "trial_end"): None,
    }
    error = red(xcoms, {**states, "check_environment": "failed", "select": "failed"})
    assert str(error).startswith(
        f"this run did not do what was required: check_environment failed: {problem}; as a result: "
        "seed-0, seed-1 did not end the training"
    )
    assert "the verdict is missing" in str(error)
    assert notes[0].startswith("check_environment failed")
    assert error.notice == "failed"


def test_results_from_before_a_clear_do_not_count() -> None:
    """Airflow keeps the XComs of a task that was cleared and did not run again."""
    states = {"judge": "failed", "approve": "upstream_failed", "promote": "upstream_failed"}
    error = red({("judge", "problem"): "decision: no shard"}, states)
    assert "judge failed: decision: no shard; as a result: the verdict is missing" in str(error)
    assert "PROMOTE" not in str(error)


def test_a_refused_launch_is_named_with_the_decision_on_the_others() -> None:
    """The run is red, and says that the other trial was promoted."""
    xcoms: dict[Any, Any] = {
        ("launch", "problem", 1): "seed-1: the budget allows no machine",
        ("await", "trial_end"): [END],
        "select": {"digest": "d1", "trials": ["seed-0"]},
    }
    error = red(xcoms, {"launch_1": "failed", "await_1": "upstream_failed"})
    assert str(error).endswith("seed-1: the budget allows no machine; decision: PROMOTE: better")


def test_an_episode_without_an_end_is_named() -> None:
    """The evaluator's error reaches the verdict through the task that it failed."""
    error = EvaluationFailedError("check", "EpisodeTooLongError: seed 7 took 1,000,000 steps")
    ti = FakeTi({}, {})
    keep_problem({"ti": ti, "exception": error})  # type: ignore[typeddict-item]
    kept = ti.pushed["problem"]
    failed = red({("check_environment", "problem"): kept}, {"check_environment": "failed"})
    assert "EpisodeTooLongError: seed 7 took 1,000,000 steps" in str(failed)


def test_a_killed_process_leaves_no_problem() -> None:
    """Its exception says nothing, and a person may have caused it."""
    for exception in (SystemExit(143), None):
        ti = FakeTi({}, {})
        keep_problem({"ti": ti, "exception": exception})  # type: ignore[typeddict-item]
        assert ti.pushed == {}


def test_a_broken_evaluation_is_red_with_seeds_reason_and_its_own_notice() -> None:
    """A night that decided nothing is not a green night."""
    lost = "candidate: 50 of 50 episodes lost, seeds 5, 6: the reward is NaN"
    judged = {
        "decision": "INCONCLUSIVE",
        "reason": "50 of 50 pairs were lost",
        "candidate": "d1",
        "broken": True,
        "lost": [lost],
    }
    error = red({"judge": judged, "promote": None}, {"promote": "skipped"})
    assert f"INCONCLUSIVE: 50 of 50 pairs were lost; {lost}" in str(error)
    assert error.notice == "inconclusive"


ADA = "ada at 2026-11-30 02:04 UTC"
ONE_TRIAL: dict[Any, Any] = {
    ("await", "trial_end"): [END],
    "select": {"digest": "d1", "trials": ["seed-0"]},
}


def test_a_cancelled_trial_is_named_with_who_and_when_and_alarms_nobody() -> None:
    """The others were selected and judged, so the run is green."""
    xcoms = {**ONE_TRIAL, ("await", "ended_by", 1): ADA}
    told = verdict(xcoms, {"await_1": "failed"})
    assert told == f"PROMOTE: better; seed-1 was cancelled by {ADA}"
    assert notes == [told + COST]


def test_if_the_name_is_unknown_the_report_says_when_a_trial_was_cancelled() -> None:
    """The API server did not load the plugin."""
    summary = {"trials": [{"trial": "seed-1", "cancelled_at": "2026-11-30T02:04:05Z"}]}
    told = verdict({**ONE_TRIAL, "report": summary}, {"await_1": "failed"})
    assert told.endswith("seed-1 was cancelled by a person at 2026-11-30 02:04 UTC")


def test_the_person_who_ended_the_run_is_named() -> None:
    """No notice is sent."""
    states = dict.fromkeys(("select", "judge", "approve", "promote"), "skipped")
    states |= {"await_0": "failed", "await_1": "failed"}
    xcoms: dict[Any, Any] = {("freeze_spec", "run_ended_by"): ADA, ("await", "trial_end"): None}
    error = red(xcoms, states)
    assert f"the run was ended by {ADA}" in str(error)
    assert error.notice is None


def test_the_note_of_a_good_run_is_the_judges_summary_with_the_cost() -> None:
    """The note of a red run begins with its cause."""
    judged = {**XCOMS["judge"], "summary": "PROMOTE: better\nmean return 500"}
    verdict({"judge": judged})
    red({"judge": judged, "terminate": {"instances_left": ["i-1"]}})
    assert notes[0] == f"PROMOTE: better\nmean return 500{COST}"
    assert notes[1].startswith("instances left: i-1; decision: PROMOTE")
    assert notes[1].endswith(COST)


@pytest.mark.parametrize(
    ("report", "cost"), [(None, "cost unknown (see the task report)"), ({}, "cost 0 USD")]
)
def test_the_note_says_if_the_cost_is_unknown_or_nothing(report: Any, cost: str) -> None:
    """The report failed, or nothing was rented."""
    verdict({"report": report})
    assert notes[0].endswith(f"\n{cost}")


@pytest.mark.parametrize(
    ("exception", "sent"),
    [
        (RunIsRedError("a", "failed"), ["failed"]),
        (RunIsRedError("a", "inconclusive"), ["inconclusive"]),
        (RunIsRedError("a person ended it", None), []),
        (AirflowFailException("another"), ["failed"]),
    ],
)
def test_the_outcome_chooses_the_notice(
    monkeypatch: pytest.MonkeyPatch, exception: Exception, sent: list[str]
) -> None:
    """A run that a person ended raises no alarm."""
    told: list[str] = []
    monkeypatch.setattr(notices, "send_notice", lambda plan, event, *_: told.append(event))
    ti = FakeTi({("freeze_spec", "plan"): World().plan.to_xcom()}, {})
    SnsRunNotifier(event="failed").notify({"ti": ti, "exception": exception})  # type: ignore[typeddict-item]
    assert told == sent
