"""The Airflow plugin: registers the extra links and the listener that creates the pool."""

from airflow.plugins_manager import AirflowPlugin

from rl_airflow.machines.pools import PoolListener
from rl_airflow.run.links import JUDGE_LINKS, TRIAL_LINKS


class NightshiftPlugin(AirflowPlugin):
    """The links on the tasks of a retraining, and the listener that creates the trials' pool."""

    name = "nightshift"
    operator_extra_links = [*TRIAL_LINKS, *JUDGE_LINKS]
    listeners = [PoolListener()]
