"""A trial is stopped early only by the declared rule and never on the gate's seeds."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.evaluation.early_stops import CurvePoint, curve_of, why_stop
from rl_lifecycle.evaluation.requests import EpisodeEnd, Shard
from rl_lifecycle.experiment.evaluation_settings import EarlyStop, Evaluation
from rl_lifecycle.experiment.experiment import read_experiment

RULE = EarlyStop(target_above=400, hopeless_below=100, hopeless_after=0.5)
EVALUATION = Evaluation(return_range=(0, 500), crash_below=100, selection_episodes=4)


def points(*means: float, error: float = 5.0) -> list[CurvePoint]:
    """Build a curve with a point every ten steps."""
    return [
        CurvePoint(step=10 * (number + 1), mean=mean, error=error, n_episodes=100)
        for number, mean in enumerate(means)
    ]


@pytest.mark.parametrize(
    ("means", "error", "message"),
    [
        ([50, 411], 5.0, "target reached at step 20"),
        ([50, 409], 5.0, ""),  # above the target by less than two standard errors
        ([420, 50, 50], 5.0, "target reached at step 10"),
        (
            [20, 30, 40, 50, 60],
            5.0,
            "hopeless at step 50: of 5 policies the best has the mean return 60",
        ),
        ([20, 30, 40, 50], 5.0, ""),  # less than half of the steps
        ([20, 30, 40, 50, 91], 5.0, ""),  # one policy may be above the limit
        ([20, 95, 40, 50, 60], 5.0, ""),  # an earlier policy may be, too
        ([20, 30, 40, 50, 60], 30.0, ""),  # too few episodes to be sure
        ([], 5.0, ""),
    ],
)
def test_the_rule_says_target_hopeless_or_nothing(
    means: list[float], error: float, message: str
) -> None:
    """The decision and its numbers are written for the log."""
    found = why_stop(points(*means, error=error), RULE, 100)
    assert found.startswith(message) if message else found == ""


def test_few_points_are_never_hopeless() -> None:
    """A trial with two points is never called hopeless, however late it is."""
    assert (
        why_stop(
            [CurvePoint(step=step, mean=1, error=0.1, n_episodes=100) for step in (40, 90)],
            RULE,
            100,
        )
        == ""
    )


@given(st.lists(st.tuples(st.floats(0, 500), st.floats(0, 50)), max_size=8))
def test_without_a_rule_nothing_is_stopped(curve: list[tuple[float, float]]) -> None:
    """Without a rule, no trial is stopped."""
    made = [
        CurvePoint(step=number, mean=mean, error=error, n_episodes=9)
        for number, (mean, error) in enumerate(curve)
    ]
    assert why_stop(made, EarlyStop(), 8) == ""
    assert not EarlyStop().active


def shard(*returns: float | None) -> Shard:
    """Build a shard of selection episodes."""
    return Shard(
        env_id="E",
        policy_sha256="p",
        first_seed=0,
        returns=returns,
        lengths=(1,) * len(returns),
        ends=tuple(
            EpisodeEnd.LOST if value is None else EpisodeEnd.TERMINATED for value in returns
        ),
        steps=len(returns),
        seconds=1.0,
    )


def test_a_point_clips_returns_and_counts_lost_episodes_as_the_floor() -> None:
    """A point is computed as in selection, and only from a complete evaluation."""
    curve = curve_of({8: shard(900.0, None, 100.0, 100.0), 16: shard(1.0, 2.0)}, EVALUATION)
    assert [(point.step, point.mean, point.n_episodes) for point in curve] == [(8, 175.0, 4)]
    assert curve[0].error == pytest.approx(110.87, abs=0.01)


@pytest.mark.parametrize(
    ("early_stop", "message"),
    [
        ({"target_above": 600}, "early_stop.target_above must lie within"),
        ({"hopeless_after": 1.5}, "early_stop.hopeless_after"),
        ({"target": 3}, "early_stop.target: unknown key (did you mean target_above?)"),
    ],
)
def test_an_invalid_rule_is_refused(early_stop: dict[str, Any], message: str) -> None:
    """The error names the key and the allowed values."""
    document = {
        "env_id": "CartPole-v1",
        "algo": "ppo",
        "total_timesteps": 100,
        "early_stop": early_stop,
        "evaluation": {"return_range": [0, 500], "crash_below": 100},
    }
    with pytest.raises(InvalidExperimentError) as refused:
        read_experiment(document, "cartpole")
    assert message in str(refused.value)
