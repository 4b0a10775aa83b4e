"""End training machines that nobody waits for any more: by tag and deadline, every 15 minutes.

**How to trigger it.** It runs by itself once it is unpaused. By hand, the form can make it only
  list. The first run only lists.

**What it ends.** Machines tagged with the environment whose deadline passed more than ten minutes
  ago (a machine ends itself at
its deadline, so these failed to), and tagged machines without a deadline. A machine of a run that
goes on is never touched.

**What a failure means.** AWS did not answer, or the role `nightshift-<environment>-reaper` cannot
  be assumed: trigger
`bootstrap_infrastructure`. The evaluation stack has a reaper of its own that works without Airflow.
"""

from rl_airflow.dag_builders.reap import build_reap_dag

dag = build_reap_dag(doc_md=__doc__)
