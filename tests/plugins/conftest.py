"""Create this process's Airflow home before any test imports Airflow."""

from tests.plugins.airflow_home import HOME

assert HOME.is_dir()
