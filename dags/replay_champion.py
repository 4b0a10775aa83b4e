"""Train a version's first segments again and compare digests: can what is in service still be
rebuilt?

**How to trigger it.** The form asks for the experiment, a version (empty: the champion) and the
  number of segments. With
`replay_schedule` in its file an experiment gets a DAG of its own, `replay_<experiment>`, that does
it by that schedule.

**What it does.** Takes the version's own spec: seeds, steps, wheels, image. Rents one machine of
  the type that trained it, ends
it as soon as the segment is committed, and compares the digest with the one that the version's
manifest keeps.

**What a failure means.** `compare` failed: DRIFTED. The same kind of machine gives other
  parameters, so the version cannot be
rebuilt any more: compare the numeric class and the wheels of the two manifests. Skipped:
NOT_COMPARABLE, the machine was of another numeric class; trigger again. `freeze_replay`: there is
no such version, or it was imported (by schedule such a replay, and one before the first champion,
is skipped). `prove_none_left` failed: nobody proved that the machine is gone; clear `terminate`,
then it. Any other task: as in a night.
"""

from pathlib import Path

from airflow.sdk import get_parsing_context

from rl_airflow.dag_builders.replay import (
    DAG_ID,
    build_replay_dag,
    build_scheduled_replay,
    scheduled_dag_id,
)
from rl_airflow.run.experiment_files import read_experiment_files

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"

wanted = get_parsing_context().dag_id
dag = build_replay_dag(DAG_ID, doc_md=__doc__)
for file in read_experiment_files(EXPERIMENTS) if wanted != DAG_ID else ():
    if (
        (name := scheduled_dag_id(file))
        and wanted in (None, name)
        and (replay := build_scheduled_replay(file, doc_md=__doc__))
    ):
        globals()[name] = replay
