"""One reader of experiment files serves the trainer and Airflow."""

from pathlib import Path

import pytest

from rl_airflow.run.experiment_files import read_experiment_file as read_for_airflow
from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.experiment.files import parse_yaml, read_experiment_file
from rl_lifecycle.storage.directory_store import DirectoryStore
from rl_trainer.errors import BadInputError
from rl_trainer.settings.spec_files import load_spec

GOOD = """
env_id: CartPole-v1
algo: ppo
total_timesteps: 100000
compute: {budget_usd: 1}
evaluation: {return_range: [0, 500], crash_below: 100}
"""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", "f: a: is written twice (again in line 3)"),
        ("a:\n  b: 1\n  c: 2\n  b: 1\n", "f: b: is written twice (again in line 4)"),
        ("- {a: 1, 'a': 1}\n", "f: a: is written twice (again in line 1)"),
        ("a: [\n", "f: line 2: is not YAML: "),
        ("a: 1\n--- \nb: 1\n", "f: line 2: is not YAML: but found another document"),
        ("!!python/object/apply:os.system ['true']", "f: line 1: is not YAML: could not determine"),
        ("? [a]\n: 1\n", "f: line 1: is not YAML: found unhashable key"),
        ("\x00", "f: is not YAML: "),
    ],
)
def test_what_is_no_yaml_or_ambiguous_is_refused(text: str, problem: str) -> None:
    """The message names the file, the key or line, and the mistake."""
    with pytest.raises(InvalidExperimentError) as caught:
        parse_yaml(text, "f")
    assert str(caught.value).startswith(problem)


def test_anchors_and_merged_keys_are_no_duplicates() -> None:
    """A key that overrides a merged key is no duplicate, also in nested merges."""
    text = """
base: &base {a: 1, b: 1}
outer: {inner: &inner {<<: *base, a: 2}}
other: {<<: *inner, b: 3}
again: [*base, *base]
"""
    assert parse_yaml(text, "f") == {
        "base": {"a": 1, "b": 1},
        "outer": {"inner": {"a": 2, "b": 1}},
        "other": {"a": 2, "b": 3},
        "again": [{"a": 1, "b": 1}] * 2,
    }
    assert parse_yaml("&a [*a]", "f")
    assert parse_yaml("", "f") is None


def test_trainer_and_airflow_read_the_same_files(tmp_path: Path) -> None:
    """Trainer and Airflow refuse the same files with the same message."""
    path = tmp_path / "experiments" / "twice.yaml"
    path.parent.mkdir()
    store = DirectoryStore(tmp_path / "store")
    path.write_text(GOOD)
    assert read_for_airflow(path).experiment == load_spec(str(path), store).experiment
    assert read_experiment_file(path).compute.budget_usd == 1

    path.write_text(GOOD + "compute: {budget_usd: 100}\n")
    problem = "twice.yaml: compute: is written twice (again in line 7)"
    assert read_for_airflow(path).problem == f"experiments/{problem}"
    with pytest.raises(BadInputError) as caught:
        load_spec(str(path), store)
    assert str(caught.value) == f"{path.parent}/{problem}"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The reader raises its own error with the path."""
    path = tmp_path / "nothing.yaml"
    with pytest.raises(
        InvalidExperimentError, match=r"nothing\.yaml: cannot be read: No such file"
    ):
        read_experiment_file(path)
