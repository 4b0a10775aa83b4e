"""Registers with Airflow what it cannot find by import: the extra links."""

from airflow.plugins_manager import AirflowPlugin

from rl_airflow.links import JUDGE_LINKS, TRIAL_LINKS


class NightshiftPlugin(AirflowPlugin):
    """The links that the tasks of a retraining show in the UI."""

    name = "nightshift"
    operator_extra_links = [*TRIAL_LINKS, *JUDGE_LINKS]
