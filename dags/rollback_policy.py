"""Put an earlier version of a policy back into service.

**How to trigger it.** The form asks for experiment, version and reason. All three are written into
the history. If you leave the version empty, the task `choose` asks in *Required Actions* for one
hour which version to use. Without an answer the champion stays. An answer counts only while the
version that the question showed is still in service. *Only list* logs the versions and the history,
and changes nothing. If you roll back from a version, later nights do
not promote it again. Only a rollback to that version puts it back.

**What a failure means.** The version does not exist or is incomplete (the message lists the
versions), it is in service already, or the result is SUPERSEDED: the champion changed at the same
moment, or after the question was asked. Look at the history, then trigger again. Several runs can
wait for an answer at the same time. The pointer moves by compare-and-swap, so no run overwrites
the change of another run unnoticed.
"""

from rl_airflow.dag_builders.rollback import build_rollback_dag
from rl_airflow.infrastructure.experiment_paths import propose_experiments

dag = build_rollback_dag(propose_experiments(__file__), doc_md=__doc__)
