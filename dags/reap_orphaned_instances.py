"""End training machines that no task waits for any more: by tag and deadline, every 15 minutes.

**How to trigger it.** Unpause it: then it runs by itself. If you trigger it by hand, the form can
make it only list the machines. The first run only lists.

**What it ends.** Machines with the environment's tag whose deadline passed more than ten minutes
ago, and tagged machines without a deadline. A machine ends itself at its deadline, so the first
kind failed to do that. The DAG never touches a machine whose deadline has not passed.

**What it closes.** Runs whose DAG has been gone for half an hour, because the experiment's file was
renamed or deleted. Airflow itself leaves such a run "running" for ever. This DAG fails the run,
ends its machines and sends a notice. The checkpoints are kept.

**What a failure means.** AWS did not answer, or the role `nightshift-<environment>-reaper` cannot
be assumed: trigger `bootstrap_infrastructure`. The evaluation stack has its own reaper, which works
without Airflow.
"""

from rl_airflow.dag_builders.reap import build_reap_dag

dag = build_reap_dag(doc_md=__doc__)
