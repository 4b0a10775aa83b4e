"""The settings of a run are flat, so that runs can be compared."""

from rl_lifecycle.reports.run_settings import flatten_settings
from tests.plugins.worlds import World


def test_settings_are_flat_and_have_no_seeds_or_names() -> None:
    """Only then does a comparison show what a person changed."""
    settings = flatten_settings(World().spec)
    assert settings["evaluation.return_range"] == "[0.0, 500.0]"
    assert settings["compute.market"] == "spot"
    assert not {"name", "run", "run_id", "trials.0", "gate_first_seed"} & settings.keys()
    assert all(not isinstance(value, dict | list) for value in settings.values())
