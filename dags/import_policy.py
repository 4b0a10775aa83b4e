"""Put a policy that was trained elsewhere into service, for instance as an experiment's first
champion.

**How to trigger it.** Write it as ONNX with `python -m rl_trainer export --model M.zip --trust
  --env-id ID --out P.onnx`, upload it with
`python -m infra_bootstrap upload-policy --environment NAME --policy P.onnx`, and give the form the
experiment, the key that was printed and where the policy comes from. It is judged like any
candidate: against the champion, or without one against the bar. The nights after compare with it.
If the experiment's file says `approval: true`, a person must approve (*Required Actions*).

**What a failure means.** `freeze_import`: there is no such experiment, or the evaluator cannot load
  the policy or play it (other
spaces, a pickle in disguise, a damaged file): the message says which. `judge`: the evaluator
failed; clear it. `import_policy`: the gate did not say PROMOTE, nobody approved, or the champion
changed meanwhile. Nothing was put into service. Several imports may be judged, or wait for a
person, at a time: each one moves only the champion that it was compared with.
"""

from pathlib import Path

from rl_airflow.dag_builders.import_policy import build_import_dag

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"

dag = build_import_dag(EXPERIMENTS, doc_md=__doc__)
