"""Read the experiment files while Airflow parses DAGs: fast, without network, without raising."""

import logging
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from rl_airflow.errors import SlowFileError
from rl_airflow.infrastructure.experiment_paths import (
    group_by_name,
    list_experiment_files,
    shard_of,
)
from rl_airflow.run.schedules import check_schedules
from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.experiment import files
from rl_lifecycle.experiment.compute_settings import Compute
from rl_lifecycle.experiment.experiment import Experiment
from rl_lifecycle.experiment.spec import check_training
from rl_lifecycle.records.names import slug

log = logging.getLogger(__name__)

#: Names that no experiment can have, and what uses them. Otherwise two would share DAG ids or
#: folders of the bucket.
RESERVED = {
    "champion": "the DAG replay_champion",
    "replay": "the runs of replays",
    "drill": "the runs of drill_interruption",
}
#: The beginning of the ids of the DAGs of replays.
REPLAY_PREFIX = "replay_"
#: The CPU time in seconds that reading one file may use. A usual file needs some milliseconds.
CPU_LIMIT_S = 2.0
#: The key that gives an experiment a DAG for replays, and the key in a file that may not be YAML.
REPLAY = "replay_schedule"
REPLAY_KEY = re.compile(rf"^{REPLAY}\s*:", re.MULTILINE)


class ReadablePart(NamedTuple):
    """What a run in flight needs from a file that is wrong now, as far as it can be read.

    :param has_replays: whether the file asks for scheduled replays.
    """

    compute: Compute = Compute()
    has_replays: bool = False


def dag_id_of(name: str) -> str:
    """Return the id of an experiment's DAG."""
    return f"retrain_{name}"


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
        return dag_id_of(self.name)

    @property
    def source(self) -> str:
        """The file as messages name it."""
        return f"{self.path.parent.name}/{self.path.name}"

    def refused(self, problem: str) -> "ExperimentFile":
        """Return the same file with a problem instead of its experiment."""
        part = ReadablePart(self.compute, self.has_replays)
        return self._replace(experiment=None, problem=problem, readable=part)


def read_experiment_files(
    folder: Path,
    only_dag_id: str | None = None,
    *,
    shard: int | None = None,
    holding: str = "",
) -> Iterator[ExperimentFile]:
    """Read a folder's experiments.

    :param only_dag_id: the only DAG that a worker needs. Other files are not opened. It counts in
        every shard, because a worker may have been told the DAG file of an earlier time.
    :param shard: the DAG file whose experiments are wanted. None means all experiments.
    :param holding: a text that the files must hold, so that the others are not parsed.
    """
    groups = group_by_name(list_experiment_files(folder))
    for name, same in groups.items():
        if only_dag_id is not None:
            wanted = only_dag_id == dag_id_of(name)
        else:
            wanted = shard in (None, shard_of(name, len(groups)))
        if wanted and any(_holds(path, holding) for path in same):
            yield _read_one_of(same)


def _holds(path: Path, text: str) -> bool:
    try:
        return not text or text in files.read_text(path, path.name, errors="replace")
    except InvalidExperimentError:  # the experiment's own DAG shows the problem
        return False


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
        with cpu_time_limit(CPU_LIMIT_S):
            experiment = files.read_experiment_file(path, file.source)
            check_schedules(experiment, file.source)
            check_training(experiment, file.source)
    except InvalidExperimentError as error:
        return _read_part(file).refused(" ".join(str(error).split()))
    except SlowFileError as error:  # nothing of it is read again
        return file.refused(f"{file.source}: {error}")
    except Exception as error:  # an exception here would hide every experiment
        problem = f"{file.source}: cannot be read: {type(error).__name__}: {error}"
        return _read_part(file).refused(problem.splitlines()[0])
    return file._replace(experiment=experiment)


def _read_part(file: ExperimentFile) -> ExperimentFile:
    """Read what can be read from a wrong file."""
    part = ReadablePart()
    try:
        text = files.read_text(file.path, file.source, errors="replace")
        part = part._replace(has_replays=REPLAY_KEY.search(text) is not None)
        document = files.parse_yaml(text, file.source)
        if isinstance(document, dict):
            part = part._replace(compute=Compute.model_validate(document.get("compute") or {}))
    except Exception as error:  # the file is wrong, so nothing in it can be relied on
        log.debug("%s: the default machines are assumed: %s", file.source, error)
    return file._replace(readable=part)


@contextmanager
def cpu_time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`SlowFileError` in the block when it has used so much CPU time.

    CPU time and not time on the clock: on a busy computer a good file must not look slow. Airflow's
    own limit on a DAG file uses another timer. Python handles signals only in the main thread, so
    there is no limit in other threads.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise SlowFileError(seconds)

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
