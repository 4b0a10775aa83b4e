"""Any mistake in hyper-parameters or an experiment's file ends in one sentence, never a traceback.

Hypothesis changes rl_zoo3's tuned entries and the files in `experiments/`.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from laptop.places import ROOT
from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.experiment.algorithms import ALGORITHMS
from rl_lifecycle.experiment.experiment import read_experiment
from rl_lifecycle.experiment.files import parse_yaml
from rl_lifecycle.experiment.hyperparameters import find_tuned
from rl_lifecycle.experiment.settings.hyperparameter_checks import (
    freeze_hyperparameters,
    read_hyperparameters,
)
from rl_lifecycle.experiment.settings.keys import POLICY_FORMS, forms_of
from rl_lifecycle.experiment.spec import Spec, freeze_spec
from rl_lifecycle.experiment.tuned import TUNED
from rl_trainer.errors import BadInputError
from rl_trainer.settings.model_settings import read_settings
from rl_trainer.training.preparation import check_untrained, make_trainer
from tests.trainer.conftest import TINY_PPO

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ENTRIES = [(algo, env_id) for algo, entries in TUNED.items() for env_id in entries]
FILES = sorted((ROOT / "experiments").glob("*.yaml"))
KEYS = sorted({key for row in ALGORITHMS.values() for key in forms_of(row)} | set(POLICY_FORMS))
TEXTS = (
    *("1e-5", "1e5", "lin_0.001", "lin_x", "auto", "auto_0.1", "None", "null", "", "relu", "x"),
    *("nn.ReLU", "ReLU", "os.system", "MlpPolicy", "CnnPolicy", "HerReplayBuffer", "normal"),
    *("dict(net_arch=[16])", "dict(", "1/0", "[" * 300, "dict(a=b.c)", "{[1]: 2}", "-'a'"),
    *("gymnasium.wrappers.TimeLimit", "stable_baselines3.PPO", "1_000", "0x1", "٣"),
)
#: Values that people write: right ones, near misses and nonsense.
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(TEXTS),
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=5)), inner, max_size=3),
    ),
    max_leaves=4,
)
CHANGES = st.dictionaries(
    st.one_of(st.sampled_from(KEYS), st.text(max_size=6)), VALUES, min_size=1, max_size=3
)
BOUNDED = settings(max_examples=300, deadline=None, derandomize=True, database=None)


def assert_one_sentence(error: Exception, *parts: str) -> None:
    """Check that an error is one line that names what is wrong."""
    text = str(error)
    assert len(text.splitlines()) == 1
    assert len(text) < 1500
    for part in parts:
        assert part in text


@BOUNDED
@given(st.sampled_from(ENTRIES), CHANGES)
@example(("ppo", "CartPole-v1"), {"normalize": {"clip_obs": "1e1"}})
@example(("ppo", "CartPole-v1"), {"batch_size": None})
@example(("a2c", "CartPole-v1"), {"n_steps": None})
@example(("dqn", "CartPole-v1"), {"buffer_size": 1e5})
@example(("ppo", "CartPole-v1"), {"policy_kwargs": {"activation_fn": "relu"}})
@example(("ppo", "CartPole-v1"), {"env_wrapper": {"a.b": 3}})
def test_a_changed_entry_is_frozen_or_refused_by_key(
    entry: tuple[str, str], changes: dict[str, Any]
) -> None:
    """What is frozen is JSON, means the same when it is read again, and suits the trainer."""
    algo, env_id = entry
    values = {**(find_tuned(algo, env_id) or {}), **changes}
    try:
        frozen = freeze_hyperparameters(algo, values, "a.yaml")
    except InvalidExperimentError as error:
        assert_one_sentence(error, "a.yaml: hyperparameters.")
        with pytest.raises(BadInputError, match=r"^hyperparameters"):
            read_settings(algo, values)
        return
    assert json.loads(json.dumps(frozen, allow_nan=False)) == frozen
    again = read_hyperparameters(algo, frozen, "a.yaml")
    assert repr(again).replace("(", "[").replace(")", "]") == repr(
        read_hyperparameters(algo, values, "a.yaml")
    ).replace("(", "[").replace(")", "]")
    assert freeze_hyperparameters(algo, frozen, "a.yaml") == frozen
    read_settings(algo, frozen)


@BOUNDED
@given(st.sampled_from(FILES), st.data())
def test_a_changed_file_is_frozen_or_refused_by_name(path: Path, data: st.DataObject) -> None:
    """A value at any place of an example file is replaced, or a new key is added."""
    document: Any = parse_yaml(path.read_text(), path.name)
    place = document
    while True:
        key = data.draw(st.one_of(st.sampled_from(sorted(place)), st.text(max_size=6)))
        if not isinstance(place.get(key), dict) or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(VALUES)
    try:
        experiment = read_experiment(document, path.stem, path.name)
        spec = freeze_spec(experiment, run_id="a", created_at=NOW, source=path.name)
    except InvalidExperimentError as error:
        assert_one_sentence(error, path.stem)
        return
    assert Spec.from_json(spec.to_json()) == spec


@BOUNDED
@given(st.text(alphabet="ab01e-+._:[]{}&*!<>|%@`'\"#\n ?,", max_size=30))
def test_any_text_is_a_document_or_is_refused(text: str) -> None:
    """YAML of any form is read, or refused with the file's name."""
    try:
        parse_yaml(text, "a.yaml")
    except InvalidExperimentError as error:
        assert_one_sentence(error, "a.yaml: ")


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(CHANGES)
def test_the_trainer_builds_a_model_or_refuses(changes: dict[str, Any]) -> None:
    """What is frozen can be built and exported, or is refused as bad input before training."""
    values = {**TINY_PPO["hyperparameters"], **changes}
    try:
        spec = freeze_spec(
            read_experiment({**TINY_PPO, "hyperparameters": values}, "tiny"),
            run_id="a",
            created_at=NOW,
        )
    except InvalidExperimentError:
        return
    try:
        check_untrained(make_trainer(spec, "seed-0", None), begun=False)
    except BadInputError as error:
        assert_one_sentence(error)
