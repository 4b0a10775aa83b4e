"""Where the experiment files are, and which DAG file builds the DAG of each.

This module imports nothing large, so that a DAG file without an experiment ends at once.
"""

import zlib
from pathlib import Path

from airflow.sdk.configuration import conf

from rl_airflow.errors import NoExperimentsFolderError
from rl_lifecycle.records.names import slug

#: The endings of experiment files.
SUFFIXES = (".yaml", ".yml")
#: Airflow's configuration: the section of this project, and the key of the experiments' folder.
SECTION, KEY = "nightshift", "experiments_folder"
#: The folders that are tried without the setting, seen from the DAG files: that of a checkout, and
#: that of services that copy only the DAG files' folder, as MWAA does.
USUAL_FOLDERS = ("../experiments", "experiments")
#: The most experiments for which `retrain.py` builds all DAGs.
MOST_IN_ONE_FILE = 50
#: The number of DAG files that share more experiments than that: `retrain.py`, `retrain_2.py`, …
#: Airflow limits the time of each DAG file (30 s for its import, 50 s in all by default), so each
#: may be slower than its usual time by a larger factor.
SHARDS = 8


def find_experiments_folder(dag_file: str) -> Path:
    """Find the folder of the experiment files: the setting's, or the one usual folder.

    :param dag_file: the DAG file that is parsed. A relative setting counts from its folder.
    :raises NoExperimentsFolderError: if there is no such folder, or if both usual folders exist.
    """
    dags = Path(dag_file).resolve().parent
    setting = conf.get(SECTION, KEY, fallback="").strip()
    tried = [(dags / name).resolve() for name in ([setting] if setting else USUAL_FOLDERS)]
    found = [folder for folder in tried if folder.is_dir()]
    if len(found) == 1:
        return found[0]
    places = " and ".join(str(folder) for folder in tried)
    if found:
        problem = f"both {places} are there, and only one can count: delete one"
    elif setting:
        problem = f"{setting!r} of the setting is not a folder (looked for {places}): correct it"
    else:
        problem = f"there is neither {' nor '.join(map(str, tried))}: make one of them"
    raise NoExperimentsFolderError(problem, f"[{SECTION}] {KEY}")


def list_experiment_files(folder: Path) -> list[Path]:
    """All experiment files of a folder, in order; empty if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in SUFFIXES and not path.name.startswith(".")
    )


def group_by_name(paths: list[Path]) -> dict[str, list[Path]]:
    """Group files by the experiment that they name. More than one file of a name is a mistake."""
    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault(slug(path.stem), []).append(path)
    return groups


def shard_of(name: str, n_experiments: int) -> int:
    """Tell which DAG file builds the DAG of an experiment: 1 is `retrain.py`.

    >>> shard_of("ant_td3", 2), shard_of("ant_td3", 500)
    (1, 8)
    """
    if n_experiments <= MOST_IN_ONE_FILE:
        return 1
    return zlib.crc32(name.encode()) % SHARDS + 1


def list_experiment_names(folder: Path) -> list[str]:
    """All names that the experiment files of a folder give, in order."""
    return list(group_by_name(list_experiment_files(folder)))


def propose_experiments(dag_file: str) -> list[str]:
    """List the experiments that a form proposes.

    :param dag_file: the path of the DAG file.
    :return: empty without a folder of the experiments. `retrain.py` shows that as an import error.
    """
    try:
        return list_experiment_names(find_experiments_folder(dag_file))
    except NoExperimentsFolderError:
        return []
