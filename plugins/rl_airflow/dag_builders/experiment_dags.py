"""Build the DAGs of the experiments whose turn it is in one DAG file.

What builds a DAG is imported only for a DAG file that has an experiment. Airflow parses each file
in a process of its own, and with few experiments `retrain.py` has them all.
"""

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from rl_airflow.errors import BrokenExperimentsError, NoExperimentsFolderError
from rl_airflow.infrastructure.experiment_paths import (
    find_experiments_folder,
    group_by_name,
    list_experiment_files,
    shard_of,
)

if TYPE_CHECKING:
    from airflow.sdk import DAG

#: The DAG file whose text all retraining DAGs show.
FIRST_FILE = "retrain.py"


def build_experiment_dags(
    dag_file: str, *, shard: int, only_dag_id: str | None = None
) -> "dict[str, DAG]":
    """Build the retraining DAGs of a DAG file.

    :param dag_file: the path of the DAG file.
    :param shard: the number of the DAG file, from 1.
    :param only_dag_id: the only DAG that a worker needs, whatever its shard is. None: all DAGs of
        the shard.
    :return: DAG id → DAG.
    :raises NoExperimentsFolderError: if the folder of the experiments is missing. Airflow shows it
        as an import error.
    """
    folder = find_experiments_folder(dag_file)
    names = list(group_by_name(list_experiment_files(folder)))
    if only_dag_id is None and not any(shard_of(name, len(names)) == shard for name in names):
        return {}

    from rl_airflow.dag_builders.retrain import build_dag
    from rl_airflow.run.experiment_files import read_experiment_files

    text = ast.get_docstring(ast.parse(Path(dag_file).with_name(FIRST_FILE).read_text("utf-8")))
    return {
        file.dag_id: build_dag(file, doc_md=text)
        for file in read_experiment_files(folder, only_dag_id=only_dag_id, shard=shard)
    }


def check_experiments(dag_file: str) -> None:
    """Read all experiment files.

    :param dag_file: the path of the DAG file, which must have no DAG: Airflow takes all DAGs of a
        file with an import error out of service.
    :raises BrokenExperimentsError: naming each wrong file and its problem. Airflow shows it as an
        import error.
    """
    from rl_airflow.run.experiment_files import read_experiment_files

    try:
        folder = find_experiments_folder(dag_file)
    except NoExperimentsFolderError:  # `retrain.py` shows it
        return
    if problems := tuple(file.problem for file in read_experiment_files(folder) if file.problem):
        raise BrokenExperimentsError(problems)
