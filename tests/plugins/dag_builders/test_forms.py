"""The forms accept optional fields as null and refuse empty required ones."""

from rl_airflow.dag_builders import params as forms
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
    """Optional fields default to null, because the UI treats an empty string as a missing value."""
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
    """A rollback needs a reason, and a destruction needs the name twice."""
    must = {
        "reason": forms.rollback_params([]),
        "environment": forms.destroying_params(),
        "confirm": forms.destroying_params(),
    }
    for name, params in must.items():
        assert params[name].schema["minLength"] >= 1


def test_the_form_says_where_the_choice_of_machines_is_explained() -> None:
    """It has what the file says and what the table of prices knows, and reads nothing else."""
    text = str(forms.retraining_params(EXPERIMENT)["max_hours"].schema["description_md"])
    assert "`compute.workers: auto` and `compute.machines: 1`" in text
    assert "The log of `freeze_spec` shows" in text
    assert "c7i.4xlarge has 8 times the vCPUs of c6i.large for 8.4 times the price" in text
