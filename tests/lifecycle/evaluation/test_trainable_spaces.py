"""Spaces and settings that cannot be trained on are refused by name, from a description alone."""

from typing import Any

import pytest

from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.evaluation.policies import SpaceForm
from rl_lifecycle.evaluation.trainable_spaces import check_spaces
from rl_lifecycle.experiment.settings.hyperparameter_checks import read_hyperparameters

VECTOR = SpaceForm(kind="Box", shape=(3,), dtype="float32", low=-1, high=1)
PICTURE = SpaceForm(kind="Box", shape=(48, 40, 3), dtype="uint8", low=0, high=255)
CHOICE = SpaceForm(kind="Discrete", n=3)
MULTI: dict[str, Any] = {"kind": "MultiDiscrete", "shape": (2,), "n": (3, 3)}
STACKED = {"frame_stack": 2}
REWARDS = {"norm_obs": False, "norm_reward": True}


def check(
    algo: str = "ppo",
    observation: SpaceForm = VECTOR,
    action: SpaceForm = CHOICE,
    **hyperparameters: Any,
) -> None:
    """Check a case as Airflow does."""
    values = read_hyperparameters(algo, hyperparameters, "a.yaml")
    check_spaces(algo, values, "Yard-v0", observation, action, "a.yaml")


def box(**changes: Any) -> SpaceForm:
    """Return the vector with other fields."""
    return SpaceForm.model_validate({**VECTOR.model_dump(), **changes})


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (
            {"action": SpaceForm(**MULTI, start=(1, 1))},
            "env_id: the actions of Yard-v0, MultiDiscrete([3, 3], start=[1, 1]), do not start",
        ),
        (
            {"action": SpaceForm(kind="MultiDiscrete", shape=(2, 1), n=(3, 3))},
            "env_id: the actions of Yard-v0, MultiDiscrete([3, 3], shape (2, 1)), have several",
        ),
        ({"action": SpaceForm(kind="Discrete", n=3, start=-1)}, "start=-1), do not start at 0"),
        (
            {"observation": SpaceForm(**MULTI, start=(0, 2))},
            "no policy takes the observations of Yard-v0, MultiDiscrete([3, 3], start=[0, 2])",
        ),
        (
            {"observation": SpaceForm(kind="MultiDiscrete", shape=(2, 2), n=(3, 4, 2, 5))},
            "so that they have one axis",
        ),
        ({"observation": box(shape=())}, "Box(-1 to 1, shape (), float32); wrap the environment"),
        (
            {"observation": SpaceForm(kind="Dict", spaces={"a": SpaceForm(kind="Dict")})},
            "so that they are Box, Discrete, MultiDiscrete, MultiBinary or a Dict of these",
        ),
        ({"action": box(dtype="int32")}, "are whole numbers, but policies for a Box choose"),
        ({"action": box(shape=())}, "hold no axis or no number"),
        ({"action": box(low=None)}, "are unbounded"),
        ({"algo": "sac"}, "algo: sac cannot handle the actions of Yard-v0, Discrete(3), it needs"),
        ({"use_sde": True}, "hyperparameters.use_sde: can only be used with continuous actions"),
        (
            {"observation": SpaceForm(kind="Discrete", n=16), **STACKED},
            "hyperparameters.frame_stack: stacks observations that are a Box, but Yard-v0 has",
        ),
        (
            {"observation": SpaceForm(kind="MultiBinary", shape=(3,), n=3), **STACKED},
            "hyperparameters.frame_stack: stacks observations",
        ),
        (
            {"observation": PICTURE, "policy": "CnnPolicy", "normalize": True},
            "hyperparameters.normalize: images are scaled, not normalized",
        ),
        (
            {"observation": CHOICE, "normalize": True},
            "hyperparameters.normalize: only a Box can be normalized",
        ),
        (
            {"algo": "dqn", "observation": CHOICE, "normalize": REWARDS},
            "hyperparameters.normalize: cannot be combined with a replay buffer",
        ),
        ({"policy": "CnnPolicy"}, "hyperparameters.policy: CnnPolicy needs images"),
        (
            {"observation": box(shape=(8, 8, 3), dtype="uint8", low=0, high=255)}
            | {"policy": "CnnPolicy"},
            "needs images of at least 36 × 36",
        ),
        (
            {"observation": SpaceForm(kind="Dict", spaces={"a": VECTOR}), "n_steps": 3}
            | {"algo": "dqn", "policy": "MultiInputPolicy"},
            "hyperparameters.n_steps: n-step returns need observations that are no Dict",
        ),
    ],
)
def test_what_cannot_be_trained_is_named(case: dict[str, Any], message: str) -> None:
    """The sentence names the key, the environment and the space."""
    with pytest.raises(InvalidExperimentError) as raised:
        check(**case)
    assert message in str(raised.value)
    assert "Yard-v0" in str(raised.value)
    assert str(raised.value).startswith("a.yaml: ")


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"action": SpaceForm(**MULTI)},
        {"observation": PICTURE, "policy": "CnnPolicy", "normalize": REWARDS, **STACKED},
        {"algo": "dqn", "observation": PICTURE, "policy": "CnnPolicy", "normalize": REWARDS},
        {"algo": "sac", "action": box(shape=(2, 3))},
    ],
)
def test_what_can_be_trained_passes(case: dict[str, Any]) -> None:
    """Spaces that SB3 trains on are accepted."""
    check(**case)


def test_stacked_and_normalized_observations_do_not_fit_a_replay_buffer() -> None:
    """The settings alone are refused, before the environment is known."""
    with pytest.raises(InvalidExperimentError, match=r"frame_stack: cannot be comb"):
        check("sac", action=VECTOR, normalize=True, **STACKED)
