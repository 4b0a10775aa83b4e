"""Where DAG files find the experiments, and what one bad file among many costs."""

import os
import shutil
import time
import zipfile
from pathlib import Path

import pytest

from rl_airflow.infrastructure.experiment_paths import (
    MOST_IN_ONE_FILE,
    SHARDS,
    SUFFIXES,
    find_experiments_folder,
    shard_of,
)
from rl_airflow.run import experiment_files
from rl_lifecycle.experiment import files
from tests.dags.conftest import DAGS
from tests.plugins.airflow_home import ROOT

GOOD = (ROOT / "experiments" / "cartpole_ppo.yaml").read_text()
SETTING = "AIRFLOW__NIGHTSHIFT__EXPERIMENTS_FOLDER"
READ_FOLDER = {"retrain.py", *(f"retrain_{n}.py" for n in range(2, SHARDS + 1))} | {
    "import_policy.py",
    "replay_champion.py",
}
#: The DAG file without a DAG, which shows wrong files as an import error.
CHECK = "check_experiments.py"


def parse(dags: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Parse a folder. :return: DAG id → DAG file, and DAG file → import error."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=str(dags))
    found = {dag_id: Path(dag.fileloc).name for dag_id, dag in bag.dags.items()}
    return found, {Path(path).name: error for path, error in bag.import_errors.items()}


def list_dag_files(dags: Path) -> list[str]:
    """List the files that Airflow's DAG processor would parse."""
    from airflow.dag_processing.importers.python_importer import PythonDagImporter

    return list(PythonDagImporter().list_dag_files(dags))


def copy_dags(folder: Path, experiments: str, names: list[str]) -> Path:
    """Copy the DAG files that read experiments, and make a folder of experiments."""
    dags = folder / "dags"
    dags.mkdir(parents=True)
    for name in (*READ_FOLDER, CHECK, ".airflowignore"):
        shutil.copy(DAGS / name, dags / name)
    for name in names:
        path = folder / experiments / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(GOOD)
    return dags


@pytest.mark.parametrize("folder", ["experiments", "dags/experiments"])
def test_both_usual_folders_are_found(tmp_path: Path, folder: str) -> None:
    """A service that copies only the DAG files' folder finds the experiments in it."""
    dags = copy_dags(tmp_path, folder, ["one"])
    with zipfile.ZipFile(tmp_path / folder / "acme-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("acme.py", "# an environment with a dag of airflow")
    found, errors = parse(dags)
    assert errors == {}
    assert found["retrain_one"] == "retrain.py"
    assert {Path(path).name for path in list_dag_files(dags)} == {*READ_FOLDER, CHECK}


@pytest.mark.parametrize("value", ["{folder}/elsewhere/nightly", "../elsewhere/nightly"])
def test_the_folder_is_a_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """It may be absolute, or relative to the DAG files. The usual folders are then not read."""
    dags = copy_dags(tmp_path, "elsewhere/nightly", ["one"])
    copied = tmp_path / "experiments"
    copied.mkdir()
    (copied / "other.yaml").write_text(GOOD)
    monkeypatch.setenv(SETTING, value.format(folder=tmp_path))
    found, errors = parse(dags)
    assert errors == {}
    assert set(found) == {"retrain_one", "import_policy", "replay_champion"}


def test_a_missing_folder_is_an_import_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the folders that were tried and the setting."""
    dags = copy_dags(tmp_path, "", [])
    found, errors = parse(dags)
    assert (found, set(errors)) == ({}, READ_FOLDER)
    for error in errors.values():
        assert f"there is neither {tmp_path}/experiments nor {dags}/experiments" in error
        assert "[nightshift] experiments_folder" in error
    monkeypatch.setenv(SETTING, "../nightly")
    _, errors = parse(dags)
    assert set(errors) == READ_FOLDER
    assert (
        f"'../nightly' of the setting is not a folder (looked for {tmp_path}/nightly)"
        in (errors["retrain.py"])
    )


def test_wrong_files_are_one_import_error_and_cost_no_dag(tmp_path: Path) -> None:
    """Airflow's first page shows it. Airflow stops all DAGs of a file that has such an error, so it
    comes from a file without one.
    """
    dags = copy_dags(tmp_path, "experiments", ["good", "typo", "empty"])
    (tmp_path / "experiments" / "typo.yaml").write_text(GOOD.replace("trials", "trails"))
    (tmp_path / "experiments" / "empty.yaml").write_text("")
    found, errors = parse(dags)
    assert set(errors) == {CHECK}
    assert CHECK not in found.values()
    assert "wrong experiment files: 2\n" in errors[CHECK]
    for problem in ("experiments/empty.yaml: ", "experiments/typo.yaml: trails: unknown key"):
        assert f"\n{problem}" in errors[CHECK]
    assert {"retrain_good", "retrain_typo", "retrain_empty"} <= set(found)


def test_two_folders_are_an_import_error(tmp_path: Path) -> None:
    """Nothing says which of the two counts."""
    copy_dags(tmp_path, "experiments", ["one"])
    shutil.copytree(tmp_path / "experiments", tmp_path / "dags" / "experiments")
    _, errors = parse(tmp_path / "dags")
    assert "are there, and only one can count: delete one" in errors["retrain.py"]


def test_this_checkout_has_one_folder() -> None:
    """Nothing needs the setting here."""
    assert find_experiments_folder(str(DAGS / "retrain.py")) == ROOT / "experiments"


def test_the_endings_are_those_of_the_reader() -> None:
    """The light module has a copy, because the reader takes long to import."""
    assert SUFFIXES == files.SUFFIXES


def test_many_experiments_are_shared_by_all_dag_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each DAG is built by exactly one file, and a worker finds its DAG in any of them."""
    from airflow.dag_processing.dagbag import DagBag

    names = [f"exp_{number:03}" for number in range(MOST_IN_ONE_FILE + 1)]
    dags = copy_dags(tmp_path, "experiments", names)
    found, errors = parse(dags)
    assert errors == {}
    places = {name: found[f"retrain_{name}"] for name in names}
    counts = {file: list(places.values()).count(file) for file in set(places.values())}
    assert set(counts) == READ_FOLDER - {"import_policy.py", "replay_champion.py"}
    assert max(counts.values()) < len(names) / 2
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "retrain_exp_007")
    for file in counts:
        assert list(DagBag(dag_folder=str(dags / file)).dags) == ["retrain_exp_007"], file


def test_every_dag_shows_the_same_documentation(tmp_path: Path) -> None:
    """The DAGs of the further files show the text of `retrain.py`."""
    from airflow.dag_processing.dagbag import DagBag

    names = [f"exp_{number:03}" for number in range(MOST_IN_ONE_FILE + 1)]
    dags = copy_dags(tmp_path, "experiments", names)
    last = f"retrain_{SHARDS}.py"
    texts = {dag.doc_md for dag in DagBag(dag_folder=str(dags / last)).dags.values()}
    assert len(texts) == 1
    assert "**How to trigger it.**" in str(texts.pop())
    assert {shard_of(name, len(names)) for name in names} == set(range(1, SHARDS + 1))


ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("# x\n" * 5_000_000, "is larger than the 64 KiB"),
        (ALIASES, "has more than the 10,000 values"),
        (MERGES, "has more than the 10,000 values"),
        ("a: [" + "x, " * 20_000 + "]", "has more than the 10,000 values"),
        ("[" * 60_000, "has more than 50 levels of nesting"),
        ("- " * 30_000, "has more than 50 levels of nesting"),
        ("a: " + "&b [" * 15_000, "has more than 50 levels of nesting"),
        ("a: " + "9" * 60_000, ""),
        ("a: 1" + ":1" * 30_000, ""),
        (GOOD.replace('"0 2 * * *"', '"0 2 30 2 *"'), "is not a cron expression"),
    ],
    ids=range(10),
)
def test_a_huge_file_costs_only_itself(tmp_path: Path, text: str, problem: str) -> None:
    """It becomes a DAG that shows the problem, in a small part of the time of one DAG file."""
    path = tmp_path / "huge.yaml"
    path.write_text(text)
    began = time.process_time()
    read = experiment_files.read_experiment_file(path)
    assert time.process_time() - began < 2 * experiment_files.CPU_LIMIT_S
    assert read.experiment is None
    assert problem in read.problem
    assert read.problem


def test_bad_files_cost_only_themselves_among_good_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow parses the good experiments, and the DAG of each bad one names its file."""
    from airflow.dag_processing.dagbag import DagBag

    def check(experiment: object, source: str) -> None:
        while source.endswith("/slow.yaml"):
            pass

    monkeypatch.setattr(experiment_files, "check_schedules", check)
    monkeypatch.setattr(experiment_files, "CPU_LIMIT_S", 0.5)
    dags = copy_dags(tmp_path, "experiments", ["a", "z"])
    bad = {
        "aliases": ALIASES,
        "merges": MERGES,
        "deep": "[" * 60_000,
        "large": "# x\n" * 20_000,
        "quadratic": GOOD + "\nzz: 1" + ":1" * 28_000,  # valid, and PyYAML needs long for it
        "slow": GOOD,
    }
    for name, text in bad.items():
        (tmp_path / f"experiments/{name}.yaml").write_text(text)
    bag = DagBag(dag_folder=str(dags / "retrain.py"))
    assert bag.import_errors == {}
    assert set(bag.dags) == {f"retrain_{name}" for name in ("a", "z", *bad)}
    for name in bad:
        first = str(bag.dags[f"retrain_{name}"].doc_md).splitlines()[0]
        assert first.startswith(f"**This experiment cannot begin a run:** experiments/{name}.yaml:")
    assert "takes more than 0.5 s of CPU time" in str(bag.dags["retrain_slow"].doc_md)
    for name in ("a", "z"):
        assert "cannot begin a run" not in str(bag.dags[f"retrain_{name}"].doc_md)


def test_a_pipe_and_a_device_are_not_opened(tmp_path: Path) -> None:
    """Reading them would never end."""
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    read = list(experiment_files.read_experiment_files(tmp_path))
    assert [file.problem.partition(": ")[2] for file in read] == [
        "cannot be read: it is not a file"
    ] * 2
    assert list(experiment_files.read_experiment_files(tmp_path, holding="x")) == []


def test_a_slow_file_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever makes it slow, it is stopped, and the files after it are read."""

    def check(experiment: object, source: str) -> None:
        while source.endswith("/slow.yaml"):
            pass

    monkeypatch.setattr(experiment_files, "check_schedules", check)
    monkeypatch.setattr(experiment_files, "CPU_LIMIT_S", 0.2)
    for name in ("a", "slow", "z"):
        (tmp_path / f"{name}.yaml").write_text(GOOD)
    read = {file.name: file.problem for file in experiment_files.read_experiment_files(tmp_path)}
    assert read.pop("slow").endswith("takes more than 0.2 s of CPU time to read; make it simpler")
    assert read == {"a": "", "z": ""}
