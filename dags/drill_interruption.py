"""Interrupt a small training on purpose, and measure how fast it recovers. Costs about a cent.

**How to trigger it.** Trigger it by hand, or unpause it: then it runs weekly. The form sets the
longest recovery that is acceptable.

**What it does.** Trains CartPole on one machine. As soon as that machine has committed a
checkpoint, the DAG terminates it and waits until another machine has finished the training. It
measures the seconds from the termination to the first new step.

**What a failure means.** `measure` failed: recovery was slower than its objective. The task's log
shows which part took long. `prove_none_left` failed: there is no proof that the machines are gone.
Clear `terminate`, then clear `prove_none_left`. If any other task failed, interruptions of real
trainings would fail in the same way: find the cause before the next night.
"""

from rl_airflow.dag_builders.drill import build_drill_dag

dag = build_drill_dag(doc_md=__doc__)
