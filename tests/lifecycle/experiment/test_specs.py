"""A frozen spec holds everything that decides the training."""

from datetime import datetime
from typing import Any

import pytest

from rl_lifecycle.errors import InvalidExperimentError, InvalidRecordError, OverlappingSeedsError
from rl_lifecycle.experiment.experiment import Experiment, read_experiment
from rl_lifecycle.experiment.hyperparameters import check_segment, rollout_timesteps
from rl_lifecycle.experiment.spec import Spec, check_fresh_seeds, freeze_spec
from rl_lifecycle.experiment.wrappers import check_wrappers
from rl_lifecycle.storage.layout import TrialId
from tests.lifecycle.conftest import NIGHT


def test_a_frozen_spec_reads_back_as_itself(spec: Spec) -> None:
    """Equal specs have equal bytes, so the digest identifies the run."""
    again = Spec.from_json(spec.to_json())
    assert again == spec
    assert again.sha256 == spec.sha256


def test_tuned_values_are_resolved_and_the_segment_is_whole_rollouts(spec: Spec) -> None:
    """The spec holds numbers instead of `zoo`, and 200,000 steps become 781 rollouts of 256."""
    assert spec.hyperparameters["n_envs"] == 8
    assert spec.segment_timesteps % 256 == 0
    assert abs(spec.segment_timesteps - 200_000) <= 128
    assert spec.n_segments == 1


def test_each_night_has_other_seeds_unless_reseed_is_off(document: dict[str, Any]) -> None:
    """With `reseed: false` runs use the same seeds; otherwise no trial shares a seed."""
    fresh = read_experiment(document, "cartpole_ppo")
    nights = [freeze_spec(fresh, run_id=run, created_at=NIGHT) for run in ("night-1", "night-2")]
    seeds = [plan.seed for night in nights for plan in night.trials]
    assert len(set(seeds)) == 6
    fixed = read_experiment(document | {"reseed": False}, "cartpole_ppo")
    same = [freeze_spec(fixed, run_id=run, created_at=NIGHT) for run in ("night-1", "night-2")]
    assert same[0].trials == same[1].trials


def test_overrides_of_a_form_go_through_the_same_checks(experiment: Experiment) -> None:
    """A form's overrides are checked like the file and give the same errors."""
    spec = freeze_spec(
        experiment, run_id="r", created_at=NIGHT, overrides={"trials": 1, "compute.budget_usd": 2.5}
    )
    assert (
        len(spec.trials),
        spec.experiment.compute.budget_usd,
        spec.experiment.compute.max_hours,
    ) == (1, 2.5, 4)
    with pytest.raises(InvalidExperimentError, match=r"run of cartpole_ppo: trials"):
        freeze_spec(experiment, run_id="r", created_at=NIGHT, overrides={"trials": -1})


def test_missing_tuned_values_name_the_nearest_known(document: dict[str, Any]) -> None:
    """`zoo` for an untuned pair is refused with the nearest pair that rl_zoo3 tuned."""
    unknown = read_experiment(document | {"env_id": "CartPole-v9"}, "x")
    with pytest.raises(
        InvalidExperimentError,
        match=r"no tuned values for ppo on CartPole-v9.*nearest: CartPole-v1",
    ):
        freeze_spec(unknown, run_id="r", created_at=NIGHT)


def test_a_naive_time_is_refused(experiment: Experiment) -> None:
    """A time without a zone is refused."""
    with pytest.raises(InvalidExperimentError, match="aware UTC"):
        freeze_spec(experiment, run_id="r", created_at=datetime(2026, 1, 1))  # noqa: DTZ001 (this is the point)


def test_an_unknown_trial_is_refused_with_the_known_trials(spec: Spec) -> None:
    """A mistyped trial is refused with the names of the run's trials."""
    assert spec.trial_id("seed-1") == TrialId("cartpole_ppo", "night-1", "seed-1")
    with pytest.raises(InvalidRecordError, match="seed-0, seed-1, seed-2"):
        spec.trial("seed-9")


def test_a_segment_shorter_than_ten_episodes_is_refused_with_the_value_to_set(
    experiment: Experiment,
) -> None:
    """CartPole on 8 environments needs 10 × 500 × 8 = 40,000 steps, which is 40,192 in whole
    rollouts.
    """
    hyperparameters = {"n_envs": 8, "n_steps": 32}
    check_segment(experiment, 40_192, hyperparameters, 500)
    check_segment(experiment, 256, hyperparameters, None)
    with pytest.raises(InvalidExperimentError, match="set checkpoint_every to at least 40192"):
        check_segment(experiment, 20_480, hyperparameters, 500)


@pytest.mark.parametrize(
    ("algo", "hyperparameters", "steps"),
    [
        ("ppo", {"n_envs": 4, "n_steps": 128}, 512),
        ("ppo", {}, 2048),
        ("a2c", {"n_envs": 2}, 10),
        ("dqn", {}, 4),
        ("dqn", {"train_freq": 16}, 16),
        ("sac", {}, 1),
        ("td3", {"train_freq": [8, "step"], "n_envs": 2}, 16),
    ],
)
def test_a_rollout_is_what_sb3_collects_between_updates(
    algo: str, hyperparameters: dict[str, Any], steps: int
) -> None:
    """SB3's default rollout sizes apply if the file sets none."""
    assert rollout_timesteps(algo, hyperparameters) == steps


def test_a_run_that_would_play_an_earlier_runs_seeds_is_refused(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hashed seeds can collide, and a repeated seed gives no new evidence."""
    spec = freeze_spec(experiment, run_id="night-2", created_at=NIGHT)
    check_fresh_seeds(spec, ["night-1", "night-2"])
    monkeypatch.setattr(
        "rl_lifecycle.experiment.spec.first_seed",
        lambda purpose, name, run: spec.gate_first_seed + 1999,
    )
    with pytest.raises(
        OverlappingSeedsError,
        match="the gate of run night-2 overlap with those of the gate of run night-1",
    ):
        check_fresh_seeds(spec, ["night-1"])


def test_a_segment_of_ars_must_hold_a_whole_iteration() -> None:
    """A segment of ARS ends between iterations of 2 n_delta episodes, so a time limit is needed."""
    document = {
        "env_id": "CartPole-v1",
        "algo": "ars",
        "total_timesteps": 50_000,
        "hyperparameters": {"n_delta": 3, "n_envs": 8},
        "evaluation": {"return_range": [0, 500], "crash_below": 100},
    }
    experiment = read_experiment(document, "walker")
    assert rollout_timesteps("ars", {"n_delta": 3, "n_envs": 8}) == 1
    check_segment(experiment, 3000, {"n_delta": 3}, 500)
    with pytest.raises(InvalidExperimentError, match="set checkpoint_every to at least 3000"):
        check_segment(experiment, 2999, {"n_delta": 3}, 500)
    with pytest.raises(InvalidExperimentError, match="needs a time limit"):
        check_segment(experiment, 3000, {"n_delta": 3}, None)


@pytest.mark.parametrize(
    "entry",
    [
        "sb3_contrib.common.wrappers.TimeFeatureWrapper",
        [{"rl_zoo3.wrappers.HistoryWrapper": {"horizon": 2}}],
    ],
)
def test_wrappers_that_no_evaluator_has_are_refused(experiment: Experiment, entry: Any) -> None:
    """Unknown wrappers are refused before launch, because the policy could never be judged."""
    check_wrappers(
        experiment, {"env_wrapper": ["gymnasium.wrappers.FlattenObservation", {"own.Wrapper": {}}]}
    )
    with pytest.raises(
        InvalidExperimentError, match=r"env_wrapper: .* is not available where policies are judged"
    ):
        check_wrappers(experiment, {"env_wrapper": entry})


def test_a_wrapper_with_statistics_of_its_own_is_refused(experiment: Experiment) -> None:
    """A wrapper's own statistics change with every judged episode, so it is refused."""
    with pytest.raises(
        InvalidExperimentError,
        match=r"NormalizeObservation keeps its statistics .* hyperparameters.normalize",
    ):
        check_wrappers(experiment, {"env_wrapper": ["gymnasium.wrappers.NormalizeObservation"]})


@pytest.mark.parametrize("workers", [1, 8, "auto"])
def test_workers_are_frozen_only_if_they_are_not_auto(
    document: dict[str, Any], workers: int | str
) -> None:
    """A spec that was frozen before this key has the same bytes today."""
    experiment = read_experiment(document | {"compute": {"workers": workers}}, "x")
    spec = freeze_spec(experiment, run_id="r", created_at=NIGHT)
    assert Spec.from_json(spec.to_json()) == spec
    assert (b'"workers"' in spec.to_json()) == (workers != "auto")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"x\.yaml: compute\.workers: is 9, but a trial has only 8 environments \(n_envs\)"),
        (
            {"algo": "ars", "env_id": "CartPole-v1"},
            r"is 9, but a trial has only 1 environment \(n_envs\); set it to at most 1",
        ),
    ],
)
def test_more_workers_than_environments_are_refused(
    document: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    """Before a machine is rented. An algorithm of whole episodes has one environment."""
    experiment = read_experiment(document | changes | {"compute": {"workers": 9}}, "x")
    with pytest.raises(InvalidExperimentError, match=message):
        freeze_spec(experiment, run_id="r", created_at=NIGHT)
