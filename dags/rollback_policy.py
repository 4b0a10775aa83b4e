"""Put an earlier version of a policy back into service.

**How to trigger it.** The form asks for experiment, version and reason; all three are written into
  the history. Without a
version the task `choose` asks in *Required Actions* which one, for an hour: its options are the
versions that there are. No answer moves nothing; an answer moves only what its question showed to
be in service. *Only list* shows in the log which versions there are and what moved when, and moves
nothing. What was rolled back from is not promoted again by a later night; a rollback to it puts it
back.

**What a failure means.** The version does not exist or is not whole (the message lists the
  versions), it is in service already,
or SUPERSEDED: the champion moved at the same moment, or after the question was asked. Look at the
history, then trigger again. Several runs may wait for an answer at a time; the pointer moves by
compare-and-swap, so none overwrites another's move unseen.
"""

from airflow.sdk import DAG

from rl_airflow.dag_builders.forms import rollback_params
from rl_airflow.dag_builders.retrain import DEFAULT_ARGS
from rl_airflow.registry.champion_operators import S3RollBackChampionOperator
from rl_airflow.registry.version_choice_operator import AskForVersionOperator

with DAG(
    "rollback_policy",
    description="Put an earlier version back into service",
    schedule=None,
    catchup=False,
    max_active_runs=16,
    params=rollback_params(),
    default_args=DEFAULT_ARGS,
    tags=["nightshift", "policies"],
    doc_md=__doc__,
) as dag:
    choose = AskForVersionOperator(task_id="choose")
    S3RollBackChampionOperator(task_id="roll_back", choice=choose.output)
