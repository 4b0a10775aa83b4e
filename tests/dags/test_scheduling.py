"""What Airflow's own scheduling code does with a retraining when tasks fail or are cleared."""

import pytest

from rl_lifecycle.reports.run_outcomes import STEPS
from tests.dags.scheduled_runs import Ends, ScheduledRun

DAG_ID = "retrain_cartpole_ppo"
#: The tasks after the training, in the order in which they must end.
LAST = ("terminate", "report", "verdict")
RED: Ends = {("verdict", -1): "failed"}


@pytest.mark.parametrize("task_id", ["launch", "await"])
@pytest.mark.parametrize("state", ["failed", "skipped"])
def test_a_trial_that_fails_or_is_skipped_costs_only_itself(task_id: str, state: str) -> None:
    """The other trial is selected, judged, promoted and reported."""
    run = ScheduledRun(DAG_ID)
    assert run.play({(task_id, 1): state}) == "success"
    states = run.states()
    assert states["await", 0] == "success"
    for step in ("select", "judge", "approve", "promote", *LAST):
        assert states[step, -1] == "success", step


@pytest.mark.parametrize("failing", [step for step in STEPS if step not in ("launch", "await")])
def test_report_and_verdict_run_last_whatever_fails(failing: str) -> None:
    """They follow `terminate`, and the run has the state of the verdict."""
    run = ScheduledRun(DAG_ID)
    assert run.play({(failing, -1): "failed", **RED}) == "failed"
    ended = [task_id for task_id, _ in run.order]
    assert ended[-2:] == ["report", "verdict"]
    assert ended.index("terminate") < ended.index("report")


def test_when_all_trials_fail_the_run_still_ends_with_its_report_and_verdict() -> None:
    """Nothing is judged, and every machine is ended."""
    run = ScheduledRun(DAG_ID)
    ends = {("launch", 0): "failed", ("await", 1): "failed", ("select", -1): "failed", **RED}
    assert run.play(ends) == "failed"
    assert run.states()["judge", -1] == "upstream_failed"
    assert [task_id for task_id, _ in run.order[-3:]] == list(LAST)


def test_a_run_that_a_person_ends_is_cleaned_up_reported_and_red() -> None:
    """Airflow skips what had not begun; teardowns run, and the verdict follows `terminate`."""
    run = ScheduledRun(DAG_ID)
    run.play({}, holds=frozenset({"await"}))
    run.mark("failed")
    assert run.play(RED) == "failed"
    states = run.states()
    assert {states["await", 0], states["await", 1]} == {"failed"}
    assert {states[step, -1] for step in ("select", "judge", "approve", "promote")} == {"skipped"}
    assert [task_id for task_id, _ in run.order[-3:]] == list(LAST)


def test_the_verdict_is_the_only_task_that_decides_the_runs_state() -> None:
    """A failed task that the verdict accepts does not make the run red."""
    run = ScheduledRun(DAG_ID)
    ends = {("await", 0): "failed", ("promote", -1): "failed", ("report", -1): "failed"}
    assert run.play({**ends, ("terminate", -1): "failed"}) == "success"


@pytest.fixture
def half_failed() -> ScheduledRun:
    """A run that ended red, because one of its trials failed."""
    run = ScheduledRun(DAG_ID)
    assert run.play({("await", 1): "failed", **RED}) == "failed"
    return run


def test_clearing_a_trial_with_what_follows_repeats_all_that_the_verdict_needs(
    half_failed: ScheduledRun,
) -> None:
    """The other trial is not trained again."""
    follows = half_failed.dag.get_task("await").get_flat_relative_ids(upstream=False)
    assert follows == {"select", "judge", "approve", "promote", *LAST}
    before = len(half_failed.order)
    half_failed.clear(task_ids=[("await", 1), *follows])
    assert half_failed.play({}) == "success"
    assert set(half_failed.order[before:]) == {("await", 1), *((one, -1) for one in follows)}


def test_clearing_failed_tasks_repeats_the_trial_and_the_verdict(
    half_failed: ScheduledRun,
) -> None:
    """`select` and `terminate` are not repeated, so the verdict must see that they are older."""
    assert half_failed.clear(only_failed=True) == {("await", 1), ("verdict", -1)}
    assert half_failed.play({}) == "success"
    assert [task_id for task_id, _ in half_failed.order[-2:]] == ["await", "verdict"]


def test_clearing_everything_runs_everything_again(half_failed: ScheduledRun) -> None:
    """The run can become green."""
    before = len(half_failed.order)
    half_failed.clear()
    assert half_failed.play({}) == "success"
    assert {task_id for task_id, _ in half_failed.order[before:]} == {*STEPS, "verdict"}


def test_a_refused_launch_is_repeated_with_its_trial() -> None:
    """Clearing the failed tasks includes the await task that never began."""
    run = ScheduledRun(DAG_ID)
    assert run.play({("launch", 1): "failed", **RED}) == "failed"
    cleared = run.clear(only_failed=True)
    assert cleared == {("launch", 1), ("await", 1), ("verdict", -1)}
    assert run.play({}) == "success"
    assert run.states()["await", 1] == "success"


def test_the_verdict_follows_every_task_whose_result_it_reads() -> None:
    """Clearing any of them with its downstream tasks repeats the verdict."""
    run = ScheduledRun(DAG_ID)
    verdict = run.dag.get_task("verdict")
    assert verdict.get_flat_relative_ids(upstream=True) == set(STEPS)
