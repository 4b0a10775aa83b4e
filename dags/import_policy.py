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

from airflow.sdk import DAG, chain

from rl_airflow.dag_builders.forms import importing_params
from rl_airflow.dag_builders.retrain import DEFAULT_ARGS, ENVIRONMENT
from rl_airflow.evaluation.judge_operator import LambdaJudgeCandidateOperator
from rl_airflow.evaluation.operators import LambdaCheckEnvironmentOperator
from rl_airflow.registry.approval_operator import AskBeforePromotingOperator
from rl_airflow.registry.import_operators import S3FreezeImportOperator, S3ImportPolicyOperator

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"
PLAN = "{{ ti.xcom_pull(task_ids='freeze_import', key='plan') }}"
CANDIDATE = "{{ ti.xcom_pull(task_ids='freeze_import', key='candidate') }}"

with DAG(
    "import_policy",
    description="Judge a policy that was trained elsewhere, and put it into service",
    schedule=None,
    catchup=False,
    max_active_runs=16,
    params=importing_params(),
    default_args=DEFAULT_ARGS,
    tags=["nightshift", "policies"],
    doc_md=__doc__,
    render_template_as_native_obj=True,
) as dag:
    freeze = S3FreezeImportOperator(task_id="freeze_import", folder=str(EXPERIMENTS))
    check = LambdaCheckEnvironmentOperator(task_id="check_environment", plan=PLAN)
    judge = LambdaJudgeCandidateOperator(
        task_id="judge", plan=PLAN, candidate=CANDIDATE, environment=ENVIRONMENT
    )
    approve = AskBeforePromotingOperator(task_id="approve", plan=PLAN, verdict=judge.output)
    bring = S3ImportPolicyOperator(
        task_id="import_policy",
        plan=PLAN,
        candidate=CANDIDATE,
        verdict=judge.output,
        approval=approve.output,
    )
    chain(freeze, check, judge, approve, bring)
