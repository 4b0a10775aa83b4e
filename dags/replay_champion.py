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

from rl_airflow.dag_builders.replay import build_replay_dags

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"

dags = build_replay_dags(EXPERIMENTS, only_dag_id=get_parsing_context().dag_id, doc_md=__doc__)
globals().update(dags)
