"""The Airflow plugin: registers the extra links and the listeners."""

from airflow.plugins_manager import AirflowPlugin

from rl_airflow.machines.pools import PoolListener
from rl_airflow.run.abandoned_runs import AbandonedRunListener
from rl_airflow.run.links import JUDGE_LINKS, TRIAL_LINKS


class NightshiftPlugin(AirflowPlugin):
    """The links on the tasks of a retraining, and the listeners: one creates the trials' pool, the
    other fails runs whose DAG is gone.
    """

    name = "nightshift"
    operator_extra_links = [*TRIAL_LINKS, *JUDGE_LINKS]
    listeners = [PoolListener(), AbandonedRunListener()]
