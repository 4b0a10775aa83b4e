"""Registers with Airflow what it cannot find by import: the extra links, and the pool's
listener.
"""

from airflow.plugins_manager import AirflowPlugin

from rl_airflow.machines.pools import PoolListener
from rl_airflow.run.links import JUDGE_LINKS, TRIAL_LINKS


class NightshiftPlugin(AirflowPlugin):
    """The links that the tasks of a retraining show in the UI, and the pool that trials share."""

    name = "nightshift"
    operator_extra_links = [*TRIAL_LINKS, *JUDGE_LINKS]
    listeners = [PoolListener()]
