"""The DAG of an experiment, or a placeholder DAG that shows what is wrong with its file."""

from pathlib import Path

from airflow.sdk import DAG, chain

from rl_airflow.dag_builders.machine_tasks import AWAIT, TERMINATE, add_machine_tasks
from rl_airflow.dag_builders.params import retraining_params
from rl_airflow.dag_builders.shared_arguments import DEFAULT_ARGS, ENVIRONMENT, PLAN
from rl_airflow.evaluation.judge_operator import LambdaJudgeCandidateOperator
from rl_airflow.evaluation.operators import (
    LambdaCheckEnvironmentOperator,
    LambdaSelectCandidateOperator,
)
from rl_airflow.registry.approval_operator import AskBeforePromotingOperator
from rl_airflow.registry.champion_operators import S3PromoteCandidateOperator
from rl_airflow.run.experiment_files import ExperimentFile
from rl_airflow.run.notices import SnsRunNotifier
from rl_airflow.run.outcome_operators import S3ReportRunOperator, VerdictOperator
from rl_airflow.run.placeholder_operator import ExplainProblemOperator
from rl_airflow.run.schedules import timetable_of
from rl_airflow.run.spec_operator import S3FreezeSpecOperator
from rl_airflow.run.task_facts import keep_problem
from rl_lifecycle.experiment.experiment import Experiment

#: A template adds no edge between tasks: `report` must run when `promote` was skipped.
PROMOTION = "{{ ti.xcom_pull(task_ids='promote') }}"
VERDICT = "{{ ti.xcom_pull(task_ids='judge') }}"


def build_dag(file: ExperimentFile, *, doc_md: str | None = None) -> DAG:
    """Build the DAG of an experiment file. A wrong file gives a placeholder DAG.

    The function does not raise: an error while Airflow parses the DAG file would hide the DAGs of
    all other experiments.

    :param doc_md: the documentation that the UI shows.
    """
    if file.experiment is None:
        return build_placeholder_dag(file, doc_md=doc_md)
    try:
        dag = build_retraining_dag(file.experiment, file.path.parent, doc_md=doc_md)
        dag.validate()  # type: ignore[no-untyped-call]
    except Exception as error:  # an exception here would hide the other DAGs
        problem = (
            f"{file.path.parent.name}/{file.path.name}: Airflow refuses it: {error}".splitlines()[0]
        )
        return build_placeholder_dag(file._replace(problem=problem), doc_md=doc_md)
    return dag


def build_retraining_dag(experiment: Experiment, folder: Path, *, doc_md: str | None = None) -> DAG:
    """Build `retrain_<experiment>`.

    :param folder: the folder of the experiment's file.
    :param doc_md: the documentation that the UI shows.
    """
    with DAG(
        f"retrain_{experiment.name}",
        description=f"{experiment.algo} on {experiment.env_id}: train, judge, promote",
        schedule=timetable_of(experiment.schedule),
        catchup=False,
        max_active_runs=1,
        params=retraining_params(experiment),
        default_args=DEFAULT_ARGS | {"on_failure_callback": keep_problem},
        doc_md=doc_md,
        tags=["nightshift", "retraining"],
        render_template_as_native_obj=True,
    ) as dag:
        freeze = S3FreezeSpecOperator(
            task_id="freeze_spec", experiment=experiment.model_dump(mode="json"), folder=str(folder)
        )
        check = LambdaCheckEnvironmentOperator(task_id="check_environment", plan=PLAN)
        candidate = LambdaSelectCandidateOperator(
            task_id="select",
            plan=PLAN,
            awaited_task_id=AWAIT,
            environment=ENVIRONMENT,
            trigger_rule="all_done",
        )
        judge = LambdaJudgeCandidateOperator(
            task_id="judge", plan=PLAN, candidate=candidate.output, environment=ENVIRONMENT
        )
        approve = AskBeforePromotingOperator(task_id="approve", plan=PLAN, verdict=judge.output)
        promote = S3PromoteCandidateOperator(
            task_id="promote",
            plan=PLAN,
            candidate=candidate.output,
            verdict=judge.output,
            approval=approve.output,
        )
        report = S3ReportRunOperator(
            task_id="report", plan=PLAN, promotion=PROMOTION, verdict=VERDICT
        )
        verdict = VerdictOperator(
            task_id="verdict", retries=0, on_failure_callback=SnsRunNotifier(event="failed")
        )
        training = add_machine_tasks(
            check,
            plan=PLAN,
            trials=freeze.output,
            compute=experiment.compute,
            environment=ENVIRONMENT,
            proof=report,
        )
        chain(freeze, check)
        terminate = dag.get_task(TERMINATE)
        chain(training, candidate, judge, approve, promote)
        # If a person marks a run as failed, Airflow skips all tasks except teardowns. So the report
        # and the verdict are teardowns, without a setup: they run in every case. The verdict also
        # follows the tasks before the report, because Airflow counts a task as one of the last
        # tasks of a run if only teardowns follow it that may fail.
        chain([promote, terminate], report.as_teardown(), verdict)
        chain([promote, terminate], verdict)
        verdict.as_teardown(on_failure_fail_dagrun=True)
    return dag


def build_placeholder_dag(file: ExperimentFile, *, doc_md: str | None = None) -> DAG:
    """Build the placeholder of a wrong file. Its only task fails and shows the problem."""
    with DAG(
        file.dag_id,
        description=f"Cannot run: {file.problem}"[:250],
        schedule=None,
        catchup=False,
        default_args={"owner": "nightshift"},
        tags=["nightshift", "retraining", "broken"],
        doc_md=f"**This experiment cannot run:** {file.problem}\n\n{doc_md or ''}",
    ) as dag:
        ExplainProblemOperator(task_id="explain_problem", problem=file.problem)
    return dag
