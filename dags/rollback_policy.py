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

from rl_airflow.dag_builders.rollback import build_rollback_dag

dag = build_rollback_dag(doc_md=__doc__)
