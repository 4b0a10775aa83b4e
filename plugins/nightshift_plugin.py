"""Registers with Airflow what it cannot find by import: the extra links."""

from airflow.plugins_manager import AirflowPlugin

from rl_airflow.links import TRIAL_LINKS


class NightshiftPlugin(AirflowPlugin):
    """The links that a trial's task shows in the UI."""

    name = "nightshift"
    operator_extra_links = list(TRIAL_LINKS)
