"""One DAG per experiment: `retrain_<experiment>`, nightly, from the YAML files in `experiments/`.

**How to trigger it.** It runs by the schedule in its file (UTC). By hand: *Trigger* opens a form
  with what the file says;
what you change there holds for that run only. From a shell: `airflow dags test
retrain_<experiment>`, with `--conf '{"total_timesteps": 20000}'` for the form's fields.

**What it does.** Freezes a spec, checks the environment, rents one machine per trial, waits until
  they have trained, picks
the best policy on selection seeds, judges it against the champion on fresh seeds, and puts it into
service only if the gate says PROMOTE. KEEP, INCONCLUSIVE and UNCHANGED are good ends, too: the
champion stays.

**What a failure means.**

- `freeze_spec`: a value of the form or the file is not allowed, or the environment is not
  bootstrapped. Correct it, or trigger `bootstrap_infrastructure`; trigger again.
- `check_environment`: the Gymnasium environment cannot be made, or segments are too short for it.
  Its message names the key and the value to set.
- `launch`: AWS refuses the request itself, or the budget does not suffice; its message says which.
  Refused
  *capacity* is no failure, it is waited out.
- `await`: the training's own code failed (the log ends with its traceback), or hours, money or
  attempts are used up. Correct the experiment, trigger again.
- `select`, `judge`: the evaluator failed. Clear the task: what was evaluated is kept.
- `promote`: the champion's files or the bucket are in trouble; the old champion stays in service.
  Clear the task.
- `terminate`: a machine is still there. Clear the task; `reap_orphaned_instances` ends it at its
  deadline.
- `verdict`: something above did not succeed; it names all of it.

Interrupted machines are replaced by themselves and resume from the last checkpoint. To stop a run,
mark it as failed: `terminate` ends its machines.
"""

from pathlib import Path

from airflow.sdk import get_parsing_context

from rl_airflow.dag_builders.retrain import build_dag
from rl_airflow.run.experiment_files import read_experiment_files

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"

for file in read_experiment_files(EXPERIMENTS, only_dag_id=get_parsing_context().dag_id):
    globals()[file.dag_id] = build_dag(file, doc_md=__doc__)
