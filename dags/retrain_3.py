"""An eighth of the DAGs `retrain_<experiment>`, when there are more than fifty experiments.

`retrain.py` says how to trigger these DAGs and what a failure means. Airflow limits the time of
each DAG file, so eight files share many experiments.
"""

from airflow.sdk import get_parsing_context

from rl_airflow.dag_builders.experiment_dags import build_experiment_dags

only = get_parsing_context().dag_id
globals().update(build_experiment_dags(__file__, shard=3, only_dag_id=only))
