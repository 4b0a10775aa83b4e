"""Train a version's first segments again and compare digests: is the version still reproducible?

**How to trigger it.** The form asks for the experiment, the version (empty: the champion) and the
number of segments. An experiment with `replay_schedule` in its file also gets a scheduled DAG,
`replay_<experiment>`.

**What it does.** Takes the version's own spec: seeds, steps, wheels, image. Rents one machine of
the type that trained the version and ends it as soon as the segment is committed. Compares the
digest with the digest in the version's manifest.

**What a failure means.**

- `compare` failed: DRIFTED. The same kind of machine gives other parameters, so the version is no
  longer reproducible. Compare the numeric class and the wheels of the two manifests.
- `compare` was skipped: NOT_COMPARABLE. The machine was of another numeric class; trigger again.
- `freeze_replay` failed: the version does not exist, or it was imported. A scheduled replay is
  skipped if the champion was imported, or if there is no champion yet.
- `prove_none_left` failed: there is no proof that the machine is gone. Clear `terminate`, then
  clear `prove_none_left`.
- Any other task: the same as in `retrain_<experiment>`.
"""

from airflow.sdk import get_parsing_context

from rl_airflow.dag_builders.replay import build_replay_dags
from rl_airflow.infrastructure.experiment_paths import find_experiments_folder

EXPERIMENTS = find_experiments_folder(__file__)

dags = build_replay_dags(EXPERIMENTS, only_dag_id=get_parsing_context().dag_id, doc_md=__doc__)
globals().update(dags)
