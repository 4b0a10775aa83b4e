"""The Airflow plugin: registers the extra links and the listeners."""

from airflow.plugins_manager import AirflowPlugin

from rl_airflow.infrastructure.audit_log import EndedByHandListener
from rl_airflow.machines.pools import PoolListener
from rl_airflow.run.abandoned_runs import AbandonedRunListener
from rl_airflow.run.links import JUDGE_LINKS, TRIAL_LINKS
from rl_airflow.run.notes import RunNoteListener


class NightshiftPlugin(AirflowPlugin):
    """The links on the tasks of a retraining, and the listeners: they create the trials' pool, fail
    runs whose DAG is gone, write the notes of runs, and keep who ended a run by hand.
    """

    name = "nightshift"
    operator_extra_links = [*TRIAL_LINKS, *JUDGE_LINKS]
    listeners = [
        PoolListener(),
        AbandonedRunListener(),
        RunNoteListener(),
        EndedByHandListener(),
    ]
