"""The forms of `needed_by`, and the moment when spot leaves too little time."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.experiment.compute_settings import Compute
from rl_lifecycle.experiment.due_times import SPARE_S, SPARE_SHARE, needed_at, spot_leaves_time
from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.experiment.spec import freeze_spec
from rl_lifecycle.machines.launch_requests import plan_market
from rl_lifecycle.machines.machine_attempts import AttemptEnd
from tests.lifecycle.machines.test_launches import attempt
from tests.lifecycle.trials.test_states import START, beat, evidence

DOCUMENT: dict[str, Any] = {
    "env_id": "CartPole-v1",
    "algo": "ppo",
    "total_timesteps": 100_000,
    "evaluation": {"return_range": [0, 500], "crash_below": 100},
}


def experiment(needed_by: Any) -> Any:
    """Build an experiment with `needed_by`."""
    return read_experiment({**DOCUMENT, "compute": {"needed_by": needed_by}}, "cartpole")


@pytest.mark.parametrize(
    "wrong",
    [
        "6:30",
        "24:00",
        990,
        "soon",
        "2026-12-01T06:00",
        datetime(2026, 12, 1),  # noqa: DTZ001 - as YAML gives an unquoted one
        True,
    ],
)
def test_a_due_time_without_a_form_is_refused_with_the_forms(wrong: Any) -> None:
    """YAML reads an unquoted 16:30 as the number 990; a moment needs an offset."""
    with pytest.raises(
        InvalidExperimentError,
        match=r'compute\.needed_by: must be a time of day in UTC, in quotes, such as "06:30"',
    ):
        experiment(wrong)


def test_a_moment_may_come_unquoted_from_yaml() -> None:
    """YAML reads an unquoted moment as a datetime with an offset."""
    assert (
        experiment(datetime(2026, 12, 1, 6, tzinfo=UTC)).compute.needed_by
        == "2026-12-01T06:00:00+00:00"
    )


def test_a_due_moment_in_the_past_is_refused_before_anything_is_frozen() -> None:
    """The error is raised before the spec is frozen and names what to write."""
    with pytest.raises(
        InvalidExperimentError,
        match=r"compute\.needed_by: 2026-11-22 01:00 UTC is in the past: choose a later",
    ):
        freeze_spec(experiment("2026-11-22T01:00Z"), run_id="r", created_at=START)


def test_an_import_or_replay_may_have_a_due_moment_in_the_past() -> None:
    """An import or a replay is not refused for a due moment in the past."""
    past = experiment("2026-11-22T01:00Z").without_due_time()
    assert freeze_spec(past, run_id="r", created_at=START).due_at is None


@given(st.integers(0, 10**9), st.integers(0, 23), st.integers(0, 59))
def test_a_time_of_day_is_the_next_one(seconds: int, hour: int, minute: int) -> None:
    """A time of day means its next occurrence, within 24 hours."""
    created_at = START + timedelta(seconds=seconds)
    due = needed_at(f"{hour:02}:{minute:02}", created_at)
    assert due is not None
    assert created_at < due <= created_at + timedelta(days=1)
    assert (due.hour, due.minute) == (hour, minute)


def test_a_trial_goes_on_demand_when_spot_leaves_too_little_time() -> None:
    """The trial goes on-demand then, whatever `on_demand_after` says."""
    for compute in (Compute(needed_by="06:00"), Compute(needed_by="06:00", on_demand_after=0)):
        tried = [attempt(1, end=AttemptEnd.INTERRUPTED)]
        assert [plan_market(compute, tried, spot_in_time=in_time) for in_time in (True, False)] == [
            "spot",
            "on-demand",
        ]


def test_the_remaining_time_follows_from_the_measured_speed() -> None:
    """The remaining time follows from steps and speed; without a speed it is all hours."""
    assert evidence(compute=Compute(max_hours=2)).left_s == 7200
    assert evidence(heartbeat=beat(steps_per_s=10), committed_step=60_000).left_s == 4000
    assert evidence(heartbeat=beat(steps_per_s=0.001), compute=Compute(max_hours=2)).left_s == 7200


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6))
def test_once_too_late_for_spot_it_stays_too_late(
    now_s: float, later_s: float, left_s: float, segment_s: float
) -> None:
    """A trial never returns from on-demand because time passed without progress."""
    due, now = START + timedelta(hours=24), START + timedelta(seconds=now_s)
    later = now + timedelta(seconds=later_s)
    assert spot_leaves_time(due, now, left_s, segment_s) or not spot_leaves_time(
        due, later, left_s, segment_s
    )


@given(st.floats(0, 1e6), st.floats(0, 1e5), st.floats(1, 1e5), st.floats(0, 1))
def test_an_interruption_at_any_moment_leaves_an_on_demand_machine_the_time(
    slack_s: float, left_s: float, segment_s: float, share: float
) -> None:
    """On-demand has enough time even if the interruption comes just before a segment's end."""
    now = START
    due, moment_s = now + timedelta(seconds=left_s + slack_s), share * left_s
    for interrupted_s in (moment_s, math.nextafter((moment_s // segment_s + 1) * segment_s, 0)):
        if interrupted_s <= left_s and spot_leaves_time(due, now, left_s, segment_s):
            left_then_s = left_s - interrupted_s // segment_s * segment_s
            ended = now + timedelta(
                seconds=interrupted_s + (1 + SPARE_SHARE) * left_then_s + SPARE_S
            )
            assert ended <= due + timedelta(milliseconds=1)


def test_the_segment_that_an_interruption_repeats_counts() -> None:
    """The repeated segment counts at the seen speed, or by its share of the remaining steps."""
    assert evidence(heartbeat=beat(steps_per_s=10)).segment_s == 4000
    assert evidence(compute=Compute(max_hours=1)).segment_s == pytest.approx(0.4 * 3600)
    assert evidence(compute=Compute(max_hours=1), committed_step=90_000).segment_s == 3600
    due = START + timedelta(seconds=1.25 * 3600 + SPARE_S)
    assert spot_leaves_time(due, START, 3600)
    assert not spot_leaves_time(due, START, 3600, 60)
    assert spot_leaves_time(due + timedelta(seconds=3600), START, 3600, 9e9)
