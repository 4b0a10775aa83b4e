"""One DAG for each experiment: `retrain_<experiment>`, nightly, from the files in `experiments/`.

**How to trigger it.** It runs on the schedule in its file (UTC). By hand: *Trigger* opens a form
with the values of the file. A change in the form applies to that run only. It also unpauses a
paused DAG: nights then begin by themselves. A backfill is refused. From a shell:
`airflow dags test retrain_<experiment>`, with `--conf '{"total_timesteps": 20000}'` to set fields
of the form.

**What it does.** Freezes a spec, checks the environment, rents one machine for each trial and waits
until the trials have trained. Then it picks the best policy on selection seeds, judges that policy
against the champion on fresh seeds, and puts it into service only if the gate says PROMOTE. KEEP,
INCONCLUSIVE and UNCHANGED are good results, too: the champion stays.

**What a failure means.**

- `freeze_spec`: a value of the form or the file is not allowed, or the environment is not
  bootstrapped. Correct the value, or trigger `bootstrap_infrastructure`. Then trigger this DAG
  again.
- `check_environment`: the Gymnasium environment cannot be made, or segments are too short for it.
  The message names the key and the value to set.
- `launch`: AWS refuses the request itself, or the budget is too small. The message names the
  cause. Missing *capacity* is no failure: the task `await` waits for capacity.
- `await`: the training's own code failed (the log ends with its traceback), or the limit on hours,
  money or attempts was reached. Correct the experiment, then trigger again.
- `select`, `judge`: the evaluator failed. Clear the task: finished evaluations are kept. If the
  champion can no longer be played, the report says so: trigger again with `new_lineage`.
- `promote`: the champion's files or the bucket cannot be read or written. The old champion stays in
  service. Clear the task.
- `terminate`: a machine is still there. Clear the task. `reap_orphaned_instances` ends the machine
  after its deadline.
- `verdict`: the run did not do what was required. The message names the first cause first, and
  then what followed from it. docs/guide.md has the whole rule.

An interrupted machine is replaced automatically, and the training resumes from the last checkpoint.
One trial's failure costs one trial: the others are judged, and the run is red. To stop a trial,
mark its `await` as failed. To stop a run, mark it as failed: `terminate` ends its machines. Both
raise no alarm.
"""

from airflow.sdk import get_parsing_context

from rl_airflow.dag_builders.experiment_dags import build_experiment_dags

only = get_parsing_context().dag_id
globals().update(build_experiment_dags(__file__, shard=1, only_dag_id=only))
