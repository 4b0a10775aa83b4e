"""The JSON schema of an experiment file agrees with the model."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from rl_lifecycle.__main__ import main
from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.experiment.experiment import ALGORITHMS, Experiment, read_experiment
from rl_lifecycle.experiment.schema import DESCRIPTIONS, FORMS, experiment_schema

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "experiments" / "experiment.schema.json"
EXAMPLES = sorted((ROOT / "experiments").glob("*.yaml"))
VALIDATOR = jsonschema.Draft202012Validator(experiment_schema())


def _documented() -> list[str]:
    """Yield the indented YAML examples in the docs that name an algorithm."""
    blocks = [
        block
        for page in sorted((ROOT / "docs").glob("*.md"))
        for block in re.findall(r"(?:^ {4}.*\n)+", page.read_text(), re.M)
    ]
    return [block for block in blocks if re.search(r"^ {4}(algo|compute): ", block, re.M)]


def test_the_file_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m rl_lifecycle schema > experiments/experiment.schema.json` updates the file."""
    assert main(["schema"]) == 0
    assert capsys.readouterr().out == FILE.read_text()
    jsonschema.Draft202012Validator.check_schema(json.loads(FILE.read_text()))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_our_own_experiments_name_the_schema_and_fit_it(path: Path) -> None:
    """The first line of each experiment names the schema, and the experiment fits it."""
    text = path.read_text()
    first = f"# yaml-language-server: $schema={FILE.name}"
    assert text.splitlines()[0] == first
    VALIDATOR.validate(yaml.safe_load(text))


def test_the_examples_of_the_docs_fit() -> None:
    """The docs' examples fit the schema together with the keys of our own experiment."""
    base = yaml.safe_load(EXAMPLES[0].read_text())
    documented = _documented()
    assert documented
    for block in documented:
        VALIDATOR.validate(base | yaml.safe_load(block))


@pytest.mark.parametrize(
    "change",
    [
        {"total_timestep": 5},
        {"algo": "pppo"},
        {"total_timesteps": 0},
        {"total_timesteps": "many"},
        {"trials": 101},
        {"env_id": "no spaces here"},
        {"hyperparameters": "best"},
        {"init_from": "nothing"},
        {"compute": {"market": "spots"}},
        {"compute": {"budget_usd": -1}},
        {"compute": {"instance_types": "c7i.large"}},
        {"compute": {"workers": 0}},
        {"compute": {"workers": "all"}},
        {"evaluation": {"return_range": [0, 500]}},
        {"evaluation": {"return_range": [0], "crash_below": 1}},
        {"evaluation": None},
        {"gate": {"alpha": 2}},
        {"evaluation": {"return_range": [0, 9], "crash_below": 1, "scenarios": {"a": {"b": 1}}}},
        {"approval": "perhaps"},
    ],
)
def test_what_the_reader_refuses_the_schema_refuses(
    document: dict[str, Any], change: dict[str, Any]
) -> None:
    """The schema refuses every mistake that concerns a single key."""
    VALIDATOR.validate(document)
    wrong = copy.deepcopy(document) | change
    with pytest.raises(InvalidExperimentError):
        read_experiment(wrong, "wrong")
    assert not VALIDATOR.is_valid(wrong)


@pytest.mark.parametrize("key", ["env_id", "algo", "total_timesteps", "evaluation"])
def test_what_has_no_default_is_required(document: dict[str, Any], key: str) -> None:
    """A key without a default is required."""
    del document[key]
    assert not VALIDATOR.is_valid(document)


@pytest.mark.parametrize(
    "change",
    [
        {"total_timesteps": "1_000_000"},  # an editor's form of an unquoted 1_000_000
        {"hyperparameters": {"learning_rate": "lin_3e-4", "n_envs": 8}},
        {"schedule": None},
        {"compute": {"needed_by": "06:30", "instance_types": ["c7i.large"]}},
        {"compute": {"workers": "auto"}},
        {"compute": {"workers": 4}},
        *({"algo": algo} for algo in ALGORITHMS),
    ],
)
def test_what_the_reader_takes_the_schema_takes(
    document: dict[str, Any], change: dict[str, Any]
) -> None:
    """The schema accepts what the reader accepts."""
    right = document | change
    read_experiment(right, "right")
    assert list(VALIDATOR.iter_errors(right)) == []


def test_every_key_is_described_once() -> None:
    """Every key has one description, in the model or in the table beside it."""
    models = {"Experiment": Experiment.model_json_schema()}
    models |= models["Experiment"]["$defs"]
    made = experiment_schema()
    for name, model in ({"Experiment": made} | made["$defs"]).items():
        for key, form in model.get("properties", {}).items():
            assert form.get("description"), f"{name}.{key}"
    for name, keys in DESCRIPTIONS.items():
        for key in keys:
            assert "description" not in models[name]["properties"][key], f"{name}.{key}"
    assert all(keys.keys() <= models[name]["properties"].keys() for name, keys in FORMS.items())
