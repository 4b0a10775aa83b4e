"""What the forms let through."""

from rl_airflow.dag_builders import forms
from rl_lifecycle.experiment.experiment import read_experiment

EXPERIMENT = read_experiment(
    {
        "env_id": "CartPole-v1",
        "algo": "ppo",
        "total_timesteps": 1000,
        "evaluation": {"return_range": [0, 500], "crash_below": 100},
    },
    "x",
)


def test_no_field_that_may_stay_empty_blocks_the_form() -> None:
    """The UI takes an empty string for a missing value and greys the button out; only null says 'as
    it is'.
    """
    for params in (
        forms.retraining_params(EXPERIMENT),
        forms.bootstrap_params(),
        forms.reaping_params(),
        forms.drill_params(),
    ):
        for name, param in params.items():
            assert param.value != "", name
            param.resolve()


def test_what_must_be_filled_in_is_refused_when_empty() -> None:
    """A rollback needs a reason, a destruction its name twice."""
    must = {
        "reason": forms.rollback_params(),
        "environment": forms.destroying_params(),
        "confirm": forms.destroying_params(),
    }
    for name, params in must.items():
        assert params[name].schema["minLength"] >= 1
