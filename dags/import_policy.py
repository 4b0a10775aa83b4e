"""Judge a policy that was trained elsewhere and put it into service, e.g. as the first champion.

**How to trigger it.**

1. Write the policy as ONNX:
   `python -m rl_trainer export --model M.zip --trust --env-id ID --out P.onnx`.
2. Upload it: `python -m infra_bootstrap upload-policy --environment NAME --policy P.onnx`.
3. Fill in the form: the experiment, the key that the upload printed, and the policy's origin.

The policy is judged like any candidate: against the champion, or against the bar if there is no
champion yet. Later nights compare with it. If the experiment's file says `approval: true`, a person
must approve (*Required Actions*).

**What a failure means.**

- `freeze_import`: there is no such experiment, or the evaluator cannot load or play the policy
  (other spaces, a pickle in disguise, a damaged file). The message names the reason.
- `judge`: the evaluator failed. Clear the task.
- `import_policy`: the gate did not say PROMOTE, no person approved, or the champion changed
  meanwhile. The policy was not put into service.

Several imports can be judged, or wait for a person, at the same time. Each import replaces only the
champion that it was compared with.
"""

from rl_airflow.dag_builders.import_policy import build_import_dag
from rl_airflow.infrastructure.experiment_paths import find_experiments_folder

EXPERIMENTS = find_experiments_folder(__file__)

dag = build_import_dag(EXPERIMENTS, doc_md=__doc__)
