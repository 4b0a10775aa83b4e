"""Hyper-parameters are frozen as they are meant, or refused with what is allowed."""

from typing import Any

import pytest

from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.experiment.files import parse_yaml
from rl_lifecycle.experiment.settings.hyperparameter_checks import freeze_hyperparameters

PLACE = "a.yaml: hyperparameters."


def frozen(text: str, algo: str = "ppo") -> dict[str, Any]:
    """Freeze hyper-parameters that are written as YAML."""
    document = parse_yaml(text, "a.yaml")
    assert isinstance(document, dict)
    return freeze_hyperparameters(algo, document, "a.yaml")


def refusal(text: str, algo: str = "ppo") -> str:
    """Return the sentence that refuses hyper-parameters."""
    with pytest.raises(InvalidExperimentError) as raised:
        frozen(text, algo)
    return str(raised.value).removeprefix(PLACE)


def optimizer(arguments: str, name: str = "Adam") -> str:
    """Write an optimizer and its arguments."""
    return f"policy_kwargs: {{optimizer_class: {name}, optimizer_kwargs: {{{arguments}}}}}"


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
@pytest.mark.parametrize(
    "betas",
    ["[2, 3]", "[0.9]", "[0.9, 1]", "[-0.1, 0.9]", "[0.9, 0.99, 0.9]", "0.9", "[a, b]", "[]"],
)
def test_betas_are_two_shares(name: str, betas: str) -> None:
    """Torch refuses any others, but only on the machine that was rented."""
    assert refusal(optimizer(f"betas: {betas}", name)).startswith(
        "policy_kwargs.optimizer_kwargs.betas: must be two numbers that are at least 0 and less "
        "than 1, such as [0.9, 0.999], not "
    )


def test_betas_are_floats() -> None:
    """Torch refuses a whole number beside a fraction."""
    given = frozen(optimizer("betas: [0, 0.9]"))["policy_kwargs"]["optimizer_kwargs"]["betas"]
    assert [type(one) for one in given] == [float, float]


@pytest.mark.parametrize(
    "arguments",
    [
        "nesterov: true",
        "nesterov: true, momentum: 0",
        "nesterov: true, momentum: 1, dampening: 0.1",
    ],
)
def test_nesterov_needs_a_momentum(arguments: str) -> None:
    """The sentence is torch's, before a machine is rented."""
    assert refusal(optimizer(arguments, "SGD")) == (
        "policy_kwargs.optimizer_kwargs.nesterov: true needs a momentum above 0, and no dampening"
    )
    assert frozen(optimizer("nesterov: true, momentum: 0.9, dampening: 0", "SGD"))


@pytest.mark.parametrize("number", ["0", "0.0", '"0"'])
def test_clipping_values_to_nothing_is_refused(number: str) -> None:
    """SB3 refuses 0 only when the model is built."""
    sentence = "clip_range_vf: must be more than 0; null switches this clipping off"
    assert refusal(f"clip_range_vf: {number}") == sentence


def test_arguments_of_a_wrapper_stay_as_they_are() -> None:
    """A version and a code are texts, although they look like numbers; 1e-5 is a number."""
    arguments = {"version": "1.0", "code": "007", "none": "None", "eps": 1e-5, "whole": 2.0}
    text = '{version: "1.0", code: "007", none: None, eps: 1e-5, whole: 2.0}'
    read = frozen(f"env_wrapper: [{{a.B: {text}}}]")["env_wrapper"]
    assert read == [{"a.B": arguments}]
    assert [type(value) for value in read[0]["a.B"].values()] == [str, str, str, float, float]


def test_a_whole_time_limit_is_a_whole_number() -> None:
    """TimeLimit refuses 100.0, which is what YAML's 1e2 means."""
    wrapper = "gymnasium.wrappers.TimeLimit"
    text = f"env_wrapper: {{{wrapper}: {{max_episode_steps: 1e2}}}}"
    limit = frozen(text)["env_wrapper"][wrapper]["max_episode_steps"]
    assert (limit, type(limit)) == (100, int)


def test_a_whole_time_limit_of_an_environment_is_a_whole_number(document: dict[str, Any]) -> None:
    """Also in the arguments of a scenario; other arguments stay as they are."""
    arguments = {"max_episode_steps": 1e3, "gravity": 2.0}
    scenarios = {"short": {"env_kwargs": dict(arguments)}}
    evaluation = {**document["evaluation"], "scenarios": scenarios}
    experiment = read_experiment(
        {**document, "env_kwargs": arguments, "evaluation": evaluation}, "cartpole"
    )
    for read in (experiment, experiment.evaluation.scenarios["short"]):
        assert list(map(repr, read.env_kwargs.values())) == ["1000", "2.0"]


@pytest.mark.parametrize("null", ["null", '"None"', "None", '"null"', "~", '""'])
def test_every_null_is_null(null: str) -> None:
    """The keys without a form of their own, too."""
    read = frozen(f"{{env_wrapper: {null}, normalize: {null}, clip_range_vf: {null}}}")
    assert set(read.values()) <= {None, "None", "null", ""}
    assert read["env_wrapper"] is None


@pytest.mark.parametrize(
    ("text", "algo", "sentence"),
    [
        (
            'normalize: "true"',
            "ppo",
            "normalize: must be true, false or dict(norm_obs=…), not 'true'",
        ),
        (
            "normalize: dict(norm_obs=true)",
            "ppo",
            "normalize: the name 'true' is not allowed, and no other name is; write a number, "
            "True, False, None or a text in quotes, or remove it",
        ),
        (
            "train_freq: episode",
            "dqn",
            "train_freq: must be a number, or a pair such as [1, \"episode\"], not 'episode'",
        ),
        (
            "train_freq: (1, episode)",
            "dqn",
            "train_freq: must be a number, or a pair such as [1, \"episode\"], not '(1, episode)'",
        ),
        (
            "policy_kwargs: {features_extractor_class: shop.nets.Small}",
            "ppo",
            "policy_kwargs.features_extractor_class: no class can be chosen here, so not "
            "'shop.nets.Small'; remove this key",
        ),
        (
            "policy_kwargs: small",
            "ppo",
            "policy_kwargs: must be a mapping or dict(…), not 'small'",
        ),
    ],
)
def test_what_is_allowed_is_what_the_key_allows(text: str, algo: str, sentence: str) -> None:
    """The names of torch's classes are listed only where a class may stand."""
    assert refusal(text, algo) == sentence
