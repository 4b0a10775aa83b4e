"""Read the experiment files while Airflow parses DAGs: fast, without network, without raising."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rl_airflow.run.schedules import check_schedules
from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.experiment import files
from rl_lifecycle.experiment.compute_settings import Compute
from rl_lifecycle.experiment.experiment import Experiment
from rl_lifecycle.experiment.hyperparameters import resolve_hyperparameters
from rl_lifecycle.records.names import slug

log = logging.getLogger(__name__)

#: Names that no experiment can have, and what uses them. Otherwise two would share DAG ids or
#: folders of the bucket.
RESERVED = {
    "champion": "the DAG replay_champion",
    "replay": "the runs of replays",
    "drill": "the runs of drill_interruption",
}


#: The key that gives an experiment a DAG for replays, in a file that may not be YAML.
REPLAY_KEY = re.compile(r"^replay_schedule\s*:", re.MULTILINE)


class ReadablePart(NamedTuple):
    """What a run in flight needs from a file that is wrong now, as far as it can be read.

    :param has_replays: whether the file asks for scheduled replays.
    """

    compute: Compute = Compute()
    has_replays: bool = False


class ExperimentFile(NamedTuple):
    """One file: an experiment, or its problem in one line and the part that can be read."""

    path: Path
    experiment: Experiment | None
    problem: str
    readable: ReadablePart = ReadablePart()

    @property
    def compute(self) -> Compute:
        """The machines of the file. A file that cannot be read gives the default ones."""
        return self.experiment.compute if self.experiment else self.readable.compute

    @property
    def has_replays(self) -> bool:
        """Whether the file asks for scheduled replays."""
        if self.experiment is None:
            return self.readable.has_replays
        return self.experiment.replay_schedule is not None

    @property
    def name(self) -> str:
        """The experiment's name in DAG ids and keys. Even a wrong file name gives a valid name, so
        that a DAG can show the problem.
        """
        return slug(self.path.stem)

    @property
    def dag_id(self) -> str:
        """The id of the file's DAG."""
        return f"retrain_{self.name}"

    @property
    def source(self) -> str:
        """The file as messages name it."""
        return f"{self.path.parent.name}/{self.path.name}"

    def refused(self, problem: str) -> "ExperimentFile":
        """Return the same file with a problem instead of its experiment."""
        part = ReadablePart(self.compute, self.has_replays)
        return self._replace(experiment=None, problem=problem, readable=part)


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
    paths = list_experiment_files(folder)
    for path in paths:
        dag_id = ExperimentFile(path, None, "").dag_id
        same = [other for other in paths if ExperimentFile(other, None, "").dag_id == dag_id]
        if path == same[0] and only_dag_id in (None, dag_id):
            yield _read_one_of(same)


def _read_one_of(paths: list[Path]) -> ExperimentFile:
    """Read the file of one name. Two files of one name are a problem: nothing says which counts."""
    file = read_experiment_file(paths[0])
    if len(paths) == 1:
        return file
    others = ", ".join(path.name for path in paths[1:])
    return file.refused(
        f"{file.source}: {others} is beside it and names the same experiment; "
        "keep one of them, and rename or delete the other"
    )


def find_experiment_file(folder: Path, name: str) -> ExperimentFile:
    """Read the experiment of a name. Without such a file the result's problem lists all names."""
    paths = list_experiment_files(folder)
    if same := [path for path in paths if path.stem == name]:
        return _read_one_of(same)
    known = ", ".join(sorted({path.stem for path in paths})) or "none"
    return ExperimentFile(
        folder / f"{name}.yaml",
        None,
        f"experiments/{name}.yaml: is not there; experiments: {known}",
    )


def read_experiment_file(path: Path) -> ExperimentFile:
    """Read one file. An error becomes its `problem`: one line with file, key and allowed values."""
    file = ExperimentFile(path, None, "")
    if taken := RESERVED.get(path.stem):
        return file.refused(
            f"{file.source}: the name {path.stem} belongs to {taken}; give the file another"
        )
    try:
        experiment = files.read_experiment_file(path, file.source)
        check_schedules(experiment, file.source)
        resolve_hyperparameters(experiment, file.source)
    except InvalidExperimentError as error:
        return _read_part(file).refused(" ".join(str(error).split()))
    except Exception as error:  # an exception here would hide every experiment
        problem = f"{file.source}: cannot be read: {type(error).__name__}: {error}"
        return _read_part(file).refused(problem.splitlines()[0])
    return file._replace(experiment=experiment)


def _read_part(file: ExperimentFile) -> ExperimentFile:
    """Read what can be read from a wrong file."""
    part = ReadablePart()
    try:
        text = file.path.read_text(encoding="utf-8", errors="replace")
        part = part._replace(has_replays=REPLAY_KEY.search(text) is not None)
        document = files.parse_yaml(text, file.source)
        if isinstance(document, dict):
            part = part._replace(compute=Compute.model_validate(document.get("compute") or {}))
    except Exception as error:  # the file is wrong, so nothing in it can be relied on
        log.debug("%s: the default machines are assumed: %s", file.source, error)
    return file._replace(readable=part)
