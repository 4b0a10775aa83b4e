"""The DAG that judges a policy from elsewhere and puts it into service."""

from pathlib import Path

from airflow.sdk import DAG, chain

from rl_airflow.dag_builders.params import importing_params
from rl_airflow.dag_builders.shared_arguments import DEFAULT_ARGS, ENVIRONMENT, dag_with_form
from rl_airflow.evaluation.environment_operator import LambdaCheckEnvironmentOperator
from rl_airflow.evaluation.judge_operator import LambdaJudgeCandidateOperator
from rl_airflow.infrastructure.experiment_paths import list_experiment_names
from rl_airflow.registry.approval_operator import AskBeforePromotingOperator
from rl_airflow.registry.import_operators import S3FreezeImportOperator, S3ImportPolicyOperator

PLAN = "{{ ti.xcom_pull(task_ids='freeze_import', key='plan') }}"
CANDIDATE = "{{ ti.xcom_pull(task_ids='freeze_import', key='candidate') }}"


def build_import_dag(folder: Path, *, doc_md: str | None = None) -> DAG:
    """Build `import_policy`.

    :param folder: the folder of the experiment files.
    :param doc_md: the documentation that the UI shows.
    """
    with dag_with_form(
        "import_policy",
        description="Judge a policy that was trained elsewhere, and put it into service",
        schedule=None,
        catchup=False,
        max_active_runs=16,
        form=importing_params(list_experiment_names(folder)),
        default_args=DEFAULT_ARGS,
        tags=["nightshift", "policies"],
        doc_md=doc_md,
        render_template_as_native_obj=True,
    ) as dag:
        freeze = S3FreezeImportOperator(task_id="freeze_import", folder=str(folder))
        check = LambdaCheckEnvironmentOperator(task_id="check_environment", plan=PLAN)
        judge = LambdaJudgeCandidateOperator(
            task_id="judge", plan=PLAN, candidate=CANDIDATE, environment=ENVIRONMENT
        )
        approve = AskBeforePromotingOperator(
            task_id="approve", plan=PLAN, candidate=CANDIDATE, verdict=judge.output
        )
        bring = S3ImportPolicyOperator(
            task_id="import_policy",
            plan=PLAN,
            candidate=CANDIDATE,
            verdict=judge.output,
            approval=approve.output,
        )
        chain(freeze, check, judge, approve, bring)
    return dag
