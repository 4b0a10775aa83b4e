"""An Airflow home of this process's own, before anything imports Airflow."""

from tests.plugins.airflow_home import HOME

assert HOME.is_dir()
