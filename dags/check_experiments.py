"""Show wrong experiment files among Airflow's import errors, on its first page. It has no DAG.

An error here hides no DAG: those of the wrong files are built by `retrain.py` and refuse new runs.
"""

from airflow.sdk import get_parsing_context

from rl_airflow.dag_builders.experiment_dags import check_experiments

if get_parsing_context().dag_id is None:
    check_experiments(__file__)
