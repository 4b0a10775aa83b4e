"""Read the experiment files while Airflow parses DAGs: fast, without network, without raising."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rl_airflow.run.schedules import check_schedules
from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.experiment import files
from rl_lifecycle.experiment.experiment import Experiment
from rl_lifecycle.experiment.hyperparameters import resolve_hyperparameters
from rl_lifecycle.records.names import slug

#: Names that no experiment can have, and what uses them. Otherwise two would share DAG ids or
#: folders of the bucket.
RESERVED = {
    "champion": "the DAG replay_champion",
    "replay": "the runs of replays",
    "drill": "the runs of drill_interruption",
}


class ExperimentFile(NamedTuple):
    """One file: an experiment, or its problem in one line."""

    path: Path
    experiment: Experiment | None
    problem: str

    @property
    def dag_id(self) -> str:
        """The id of the file's DAG. Even a wrong file name gives a valid id, so that a DAG can show
        the problem.
        """
        return f"retrain_{slug(self.path.stem)}"


def list_experiment_files(folder: Path) -> list[Path]:
    """All experiment files of a folder, in order; empty if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in files.SUFFIXES and not path.name.startswith(".")
    )


def read_experiment_files(folder: Path, only_dag_id: str | None = None) -> Iterator[ExperimentFile]:
    """Read a folder's experiments.

    :param only_dag_id: the only DAG that a worker needs. Other files are not opened. None means
        all files.
    """
    seen: dict[str, Path] = {}
    for path in list_experiment_files(folder):
        dag_id = ExperimentFile(path, None, "").dag_id
        if dag_id in seen:
            continue  # a second spelling (.yml beside .yaml) would replace the first one's DAG
        seen[dag_id] = path
        if only_dag_id is None or only_dag_id == dag_id:
            yield read_experiment_file(path)


def find_experiment_file(folder: Path, name: str) -> ExperimentFile:
    """Read the experiment of a name. Without such a file the result's problem lists all names."""
    paths = {path.stem: path for path in list_experiment_files(folder)}
    if name in paths:
        return read_experiment_file(paths[name])
    known = ", ".join(sorted(paths)) or "none"
    return ExperimentFile(
        folder / f"{name}.yaml",
        None,
        f"experiments/{name}.yaml: is not there; experiments: {known}",
    )


def read_experiment_file(path: Path) -> ExperimentFile:
    """Read one file. An error becomes its `problem`: one line with file, key and allowed values."""
    source = f"{path.parent.name}/{path.name}"
    if taken := RESERVED.get(path.stem):
        return ExperimentFile(
            path, None, f"{source}: the name {path.stem} belongs to {taken}; give the file another"
        )
    try:
        experiment = files.read_experiment_file(path, source)
        check_schedules(experiment, source)
        resolve_hyperparameters(experiment, source)
    except InvalidExperimentError as error:
        return ExperimentFile(path, None, " ".join(str(error).split()))
    except Exception as error:  # an exception here would hide every experiment
        return ExperimentFile(
            path, None, f"{source}: cannot be read: {type(error).__name__}: {error}".splitlines()[0]
        )
    return ExperimentFile(path, experiment, "")
