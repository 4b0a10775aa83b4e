"""An experiment file is read, or refused in one line that names the key."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.experiment.experiment import Experiment, read_experiment


def test_what_is_left_out_takes_the_documented_default(experiment: Experiment) -> None:
    """Only return_range and crash_below have no default."""
    assert experiment.trials == 3
    assert experiment.schedule == "0 2 * * *"
    assert experiment.compute.budget_usd == 10
    assert experiment.gate.alpha == 0.05
    assert experiment.approval is False


@pytest.mark.parametrize(
    ("change", "key", "message"),
    [
        ({"total_timestep": 5}, "total_timestep", "did you mean total_timesteps?"),
        ({"compute": {"budget": 3}}, "compute.budget", "did you mean budget_usd?"),
        ({"algo": "pop"}, "algo", "did you mean ppo?"),
        ({"trials": 0}, "trials", "greater than or equal to 1, not 0"),
        ({"trials": "many"}, "trials", "not 'many'"),
        ({"compute": {"budget_usd": -1}}, "compute.budget_usd", "greater than 0, not -1"),
        ({"compute": {"budget_usd": 0}}, "compute.budget_usd", "greater than 0"),
        ({"compute": {"market": "cheap"}}, "compute.market", "'spot' or 'on-demand'"),
        ({"compute": {"instance_types": ["large"]}}, "compute.instance_types", "c7i.large"),
        (
            {"compute": {"gpu_updates": "cuda_graphs", "instance_types": ["g5.xlarge"]}},
            "compute.gpu_updates",
            "cuda_graphs was removed in release 0.2.0: delete this line, and SB3's own updates "
            "train",
        ),
        ({"compute": {"workers": 0}}, "compute.workers", "number from 1 to 1024, not 0"),
        ({"compute": {"workers": "many"}}, "compute.workers", "must be `auto` or a whole number"),
        ({"compute": {"workers": True}}, "compute.workers", "must be `auto` or a whole number"),
        ({"compute": {"workers": 2.5}}, "compute.workers", "number from 1 to 1024, not 2.5"),
        ({"env_id": "no spaces here"}, "env_id", "no Gymnasium id"),
        ({"evaluation": {"crash_below": 1}}, "evaluation.return_range", "tightest honest floor"),
        ({"evaluation": {"return_range": [0, 500]}}, "evaluation.crash_below", "counts as failed"),
        (
            {"evaluation": {"return_range": [500, 0], "crash_below": 1}},
            "evaluation",
            "lowest < highest",
        ),
        (
            {"evaluation": {"return_range": [0, 500], "crash_below": 900}},
            "evaluation",
            "within return_range",
        ),
        ({"evaluation": None}, "evaluation", "valid"),
        ({"gate": {"alpha": 2}}, "gate.alpha", "less than 0.5, not 2"),
        (
            {"evaluation": {"return_range": [0, 500], "crash_below": 100, "max_pairs": 100}},
            "",
            "takes at least 194 pairs",
        ),
        ({"gate": {"margin": 600}}, "", "gate.margin must be smaller than the width"),
        ({"total_timesteps": True}, "total_timesteps", "must be a number, not true"),
        ({"seed": False}, "seed", "must be a number, not false"),
        ({"approval": "no"}, "approval", "must be true or false, without quotes, not 'no'"),
        ({"reseed": 1}, "reseed", "must be true or false, without quotes, not 1"),
        ({"compute": {"max_hours": True}}, "compute.max_hours", "must be a number, not true"),
        (
            {"evaluation": {"return_range": [False, 500], "crash_below": 100}},
            "evaluation.return_range",
            "must be a number, not false",
        ),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_is_allowed(
    document: dict[str, Any], change: dict[str, Any], key: str, message: str
) -> None:
    """The error is one line with the file, the key and the allowed values."""
    with pytest.raises(InvalidExperimentError) as caught:
        read_experiment(document | change, "cartpole_ppo")
    assert caught.value.key == key
    assert message in str(caught.value)
    assert str(caught.value).startswith(
        f"experiments/cartpole_ppo.yaml: {key}" + (": " if key else "")
    )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["env_id", "algo", "total_timesteps", "evaluation"])
def test_a_missing_key_is_named(document: dict[str, Any], key: str) -> None:
    """A missing key without a default is named."""
    del document[key]
    with pytest.raises(InvalidExperimentError, match=f"{key}: is missing"):
        read_experiment(document, "cartpole_ppo")


@pytest.mark.parametrize("document", [None, [], "text", 3])
def test_a_file_that_is_no_mapping_is_refused(document: object) -> None:
    """An empty file, a list and a word are refused."""
    with pytest.raises(InvalidExperimentError, match="must hold a mapping"):
        read_experiment(document, "empty")


def test_a_file_name_that_is_no_slug_is_refused(document: dict[str, Any]) -> None:
    """A file's name must be a slug, because it is part of keys, tags and DAG ids."""
    with pytest.raises(InvalidExperimentError, match="must be named in lower case"):
        read_experiment(document, "Cart Pole")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(key=st.sampled_from(sorted(Experiment.model_fields)) | st.text(max_size=10), value=JSON)
def test_no_value_gives_anything_but_an_experiment_or_one_line(key: str, value: Any) -> None:
    """Any YAML value gives an experiment or the documented error."""
    document = {
        "env_id": "CartPole-v1",
        "algo": "ppo",
        "total_timesteps": 1,
        "evaluation": {"return_range": [0, 500], "crash_below": 100},
    } | {key: value}
    with contextlib.suppress(InvalidExperimentError):
        assert read_experiment(document, "fuzzed").name == "fuzzed"
