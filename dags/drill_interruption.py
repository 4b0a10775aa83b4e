"""Interrupt a small training on purpose, and see whether it goes on as fast as it should. Costs
about a cent.

**How to trigger it.** By hand, or by its weekly schedule once it is unpaused. The form says how
  fast is fast enough.

**What it does.** Trains CartPole on one machine, terminates that machine as soon as it has
  committed a checkpoint, waits until
another one has finished the training, and measures the seconds from the termination to the first
new step.

**What a failure means.** `measure` failed: recovery was slower than its objective; its log says
  which part took long.
`prove_none_left` failed: nobody proved that the machines are gone; clear `terminate`, then it. Any
other task failed: interruptions of real trainings would fail alike, so look at it before the next
night.
"""

from rl_airflow.dag_builders.drill import build_drill_dag

dag = build_drill_dag(doc_md=__doc__)
