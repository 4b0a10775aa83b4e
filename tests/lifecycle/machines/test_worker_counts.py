"""The choice of the number of processes is worth its cost, and explains itself."""

from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lifecycle.machines.worker_counts import (
    LEAST_GAIN,
    LEAST_STEP_S,
    StepCosts,
    choose_workers,
)

SECONDS = st.floats(1e-6, 1.0)


@settings(deadline=None)
@given(
    n_envs=st.integers(1, 256),
    cores=st.integers(1, 192),
    environment_s=SECONDS,
    training_s=st.just(0.0) | SECONDS,
)
def test_a_choice_is_possible_and_says_why(
    n_envs: int, cores: int, environment_s: float, training_s: float
) -> None:
    """Never more processes than cores or environments, and one for cheap steps."""
    choice = choose_workers(n_envs, cores, StepCosts(environment_s, training_s))
    assert 1 <= choice.workers <= min(n_envs, cores)
    assert choice.reason
    if environment_s < LEAST_STEP_S or training_s > environment_s / (LEAST_GAIN - 1):
        assert choice.workers == 1


@settings(deadline=None)
@given(n_envs=st.integers(2, 64), cores=st.integers(2, 64), environment_s=st.floats(0.001, 1.0))
def test_expensive_environments_get_processes(
    n_envs: int, cores: int, environment_s: float
) -> None:
    """From a millisecond on, each of several cores is worth it."""
    assert choose_workers(n_envs, cores, StepCosts(environment_s)).workers > 1


@settings(deadline=None)
@given(
    n_envs=st.integers(1, 64),
    workers=st.integers(1, 64),
    environment_s=SECONDS,
    steps_per_s=st.floats(0.1, 1e6),
)
def test_the_other_costs_are_what_the_environments_do_not_explain(
    n_envs: int, workers: int, environment_s: float, steps_per_s: float
) -> None:
    """They are never negative, and never more than the whole step."""
    costs = StepCosts.of_training(environment_s, n_envs, workers, steps_per_s)
    assert costs.environment_s == environment_s
    assert 0 <= costs.training_s <= 1 / steps_per_s
