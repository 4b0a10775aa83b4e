"""The number of shards is part of what is trained, so a spec holds it as a number."""

import json
from typing import Any

import pytest

from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.experiment.settings.shards import auto_shards, divisors_of
from rl_lifecycle.experiment.spec import Spec, freeze_spec
from tests.lifecycle.conftest import NIGHT


def freeze(document: dict[str, Any], **changes: Any) -> Spec:
    """Freeze the experiment of a file with some other keys."""
    return freeze_spec(
        read_experiment(document | changes, "cartpole_ppo"), run_id="night-1", created_at=NIGHT
    )


@pytest.mark.parametrize("changes", [{}, {"shards": "auto"}, {"shards": 1}])
def test_a_file_that_asks_for_nothing_trains_as_before(
    document: dict[str, Any], changes: dict[str, Any]
) -> None:
    """The spec has one shard, and its bytes do not mention it."""
    spec = freeze(document, **changes)
    assert spec.shards == 1
    assert "shards" not in json.loads(spec.to_json())


def test_a_spec_without_the_key_means_one(document: dict[str, Any]) -> None:
    """A spec of an earlier release reads back with its own digest."""
    earlier = freeze(document)
    assert Spec.from_json(earlier.to_json()).sha256 == earlier.sha256
    assert Spec.from_json(earlier.to_json()).experiment.shards == "auto"


def test_a_number_is_frozen_and_changes_the_digest(document: dict[str, Any]) -> None:
    """CartPole has 8 environments, which four shards divide."""
    spec = freeze(document, shards=4)
    assert (spec.shards, spec.experiment.shards) == (4, 4)
    assert Spec.from_json(spec.to_json()) == spec
    assert spec.sha256 != freeze(document).sha256


def test_a_form_may_give_the_number_as_text(document: dict[str, Any]) -> None:
    """Airflow's forms send text."""
    experiment = read_experiment(document, "cartpole_ppo")
    spec = freeze_spec(experiment, run_id="r", created_at=NIGHT, overrides={"shards": "2"})
    assert spec.shards == 2


@pytest.mark.parametrize("wrong", [0, -2, 2.0, "many", True, None, [2]])
def test_what_is_no_number_of_shards_is_refused(document: dict[str, Any], wrong: object) -> None:
    """One line names the key and what is allowed."""
    with pytest.raises(InvalidExperimentError) as caught:
        read_experiment(document | {"shards": wrong}, "cartpole_ppo")
    assert caught.value.key == "shards"
    assert "must be `auto` or a whole number of at least 1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shards_that_do_not_divide_are_refused_when_the_spec_is_frozen(
    document: dict[str, Any],
) -> None:
    """The message lists what divides."""
    with pytest.raises(
        InvalidExperimentError,
        match=r"^experiments/cartpole_ppo\.yaml: shards: 3 does not divide "
        r"hyperparameters\.n_envs = 8; allowed: 1, 2, 4, 8$",
    ):
        freeze(document, shards=3)


@pytest.mark.parametrize("algo", ["dqn", "sac", "ars"])
def test_only_on_policy_algorithms_have_shards(document: dict[str, Any], algo: str) -> None:
    """`auto` stays allowed for every algorithm, because it means one shard."""
    document |= {"algo": algo, "hyperparameters": {"n_envs": 2}}
    assert freeze(document, shards="auto").shards == 1
    with pytest.raises(
        InvalidExperimentError, match=f"shards: 2 is not possible with {algo}, .* remove this key"
    ):
        freeze(document, shards=2)


@pytest.mark.parametrize("n_envs", range(1, 33))
@pytest.mark.parametrize("n_machines", range(1, 6))
def test_auto_follows_from_environments_and_machines_alone(n_envs: int, n_machines: int) -> None:
    """One machine has one shard; each of several has a shard as long as there are enough."""
    chosen = auto_shards(n_envs, n_machines)
    assert chosen in divisors_of(n_envs)
    assert chosen >= min(n_machines, n_envs)
    if n_machines == 1:
        assert chosen == 1
    elif n_envs % n_machines == 0:
        assert chosen == n_machines
