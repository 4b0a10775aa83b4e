"""The table of keys agrees with the signatures of SB3, sb3-contrib and torch."""

import importlib
import inspect
import re
from typing import Any

import pytest
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.vec_env import VecNormalize

from rl_lifecycle.experiment.algorithms import ALGORITHMS, Algorithm
from rl_lifecycle.experiment.settings import keys
from rl_lifecycle.experiment.settings.literals import CLASSES, OPTIMIZERS
from rl_lifecycle.experiment.settings.values import Form, Kind
from rl_trainer.settings.algorithm_classes import load_class

EVERY_ROW = pytest.mark.parametrize("row", ALGORITHMS.values(), ids=ALGORITHMS)
#: Words in an annotation → the kinds that hold such a value.
KINDS = {
    r"Callable": {Kind.SCHEDULE},
    r"str \| float": {Kind.AUTO},
    r"tuple\[int, str\]": {Kind.FREQUENCY},
    r"list\[int\]": {Kind.LAYERS},
    r"\bdict\[": {Kind.MAPPING},
    r"\btype\[": {Kind.CLASS},
    r"\bbool\b": {Kind.FLAG},
    r"\bfloat\b": {Kind.NUMBER},
    r"\bint\b": {Kind.WHOLE},
}
#: Constructors allow null here, but then a minibatch has no size that can be checked.
NEVER_NULL = {("ppo_lstm", "batch_size"), ("maskable_ppo", "batch_size")}
#: Arguments of policies that SB3 sets itself, from other hyper-parameters.
GIVEN = {"self", "observation_space", "action_space", "lr_schedule", "use_sde"}


def parameters(kind: Any) -> dict[str, inspect.Parameter]:
    """Return the parameters of a constructor."""
    return dict(inspect.signature(kind.__init__).parameters)


def annotation(parameter: inspect.Parameter) -> str:
    """Return an annotation as text."""
    found = parameter.annotation
    return found.__name__ if isinstance(found, type) and "[" not in str(found) else str(found)


def fits(form: Form, parameter: inspect.Parameter) -> bool:
    """Whether a form holds what an annotation asks for."""
    text = annotation(parameter)
    return next(kinds for words, kinds in KINDS.items() if re.search(words, text)) == {form.kind}


@EVERY_ROW
def test_each_key_has_the_type_of_its_argument(row: Algorithm) -> None:
    """A key is null, a number, a schedule … exactly where the constructor's annotation says so."""
    for name, form in keys.forms_of(row).items():
        if name in keys.ZOO_FORMS:
            continue
        parameter = parameters(load_class(row))[name]
        assert fits(form, parameter), (name, form, parameter)
        optional = "None" in annotation(parameter) and (row.name, name) not in NEVER_NULL
        assert form.null == optional, (name, form, parameter)


@EVERY_ROW
def test_each_default_is_allowed(row: Algorithm) -> None:
    """SB3's own defaults pass the table's types and ranges."""
    from rl_lifecycle.experiment.settings.hyperparameter_checks import read_hyperparameters

    assert read_hyperparameters(row.name, row.settings, "defaults") == dict(row.settings)


@EVERY_ROW
def test_the_policies_and_their_arguments_are_those_of_sb3(row: Algorithm) -> None:
    """The table has every policy, and every argument of each policy with its type."""
    aliases = load_class(row).policy_aliases
    assert set(row.policies) == set(aliases)
    for policy, kind in aliases.items():
        theirs = {name: p for name, p in parameters(kind).items() if name not in GIVEN}
        ours = keys.policy_forms(row, policy)
        assert set(ours) == set(theirs)
        for name, form in ours.items():
            text = annotation(theirs[name])
            # One of sb3-contrib's arguments has no annotation that names its type.
            assert fits(form, theirs[name]), (policy, name, text)


@EVERY_ROW
def test_noise_is_a_key_of_the_algorithms_that_take_it(row: Algorithm) -> None:
    """`noise_type` is known exactly where the constructor has `action_noise`."""
    assert keys.takes_noise(row) == ("action_noise" in parameters(load_class(row)))


@pytest.mark.parametrize(
    ("forms", "kinds"),
    [
        (keys.NORMALIZE_FORMS, [VecNormalize]),
        (keys.MONITOR_FORMS, [Monitor]),
        (keys.REPLAY_FORMS, [ReplayBuffer, DictReplayBuffer]),
        (keys.HER_FORMS, [HerReplayBuffer]),
        (keys.EXTRACTOR_FORMS["Mlp"], [FlattenExtractor]),
        (keys.EXTRACTOR_FORMS["Cnn"], [NatureCNN]),
        (keys.EXTRACTOR_FORMS["MultiInput"], [CombinedExtractor]),
    ],
)
def test_the_keys_of_inner_mappings_are_arguments(
    forms: dict[str, Form], kinds: list[type]
) -> None:
    """Every key of a mapping inside the hyper-parameters is an argument of its class."""
    for kind in kinds:
        assert set(forms) <= set(parameters(kind)), kind


def test_the_keys_of_optimizers_are_arguments() -> None:
    """An optimizer takes each key that the table has for it, and each listed class exists."""
    for name, module in CLASSES.items():
        kind = getattr(importlib.import_module(module), name)
        if name in OPTIMIZERS or name == "RMSpropTFLike":
            assert set(keys.OPTIMIZER_KEYS[name]) <= set(parameters(kind)), name
            assert set(keys.OPTIMIZER_KEYS[name]) <= set(keys.INNER_FORMS["optimizer_kwargs"])
