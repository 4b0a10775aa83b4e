"""The DAG of an experiment. The DAG of a wrong file has the same tasks and refuses new runs."""

from contextlib import AbstractContextManager
from typing import Any

from airflow.sdk import DAG, chain

from rl_airflow.dag_builders.machine_tasks import AWAIT, TERMINATE, add_machine_tasks
from rl_airflow.dag_builders.params import environment_param, region_param, retraining_params
from rl_airflow.dag_builders.shared_arguments import (
    DEFAULT_ARGS,
    ENVIRONMENT,
    PLAN,
    RUN_TYPES,
    dag_with_form,
)
from rl_airflow.evaluation.environment_operator import LambdaCheckEnvironmentOperator
from rl_airflow.evaluation.judge_operator import LambdaJudgeCandidateOperator
from rl_airflow.evaluation.selection_operator import LambdaSelectCandidateOperator
from rl_airflow.registry.approval_operator import AskBeforePromotingOperator
from rl_airflow.registry.champion_operators import S3PromoteCandidateOperator
from rl_airflow.run.experiment_files import ExperimentFile
from rl_airflow.run.notices import SnsRunNotifier
from rl_airflow.run.outcome_operators import S3ReportRunOperator, VerdictOperator
from rl_airflow.run.refusal_operator import S3RefuseRunOperator
from rl_airflow.run.schedules import timetable_of
from rl_airflow.run.spec_operator import S3FreezeSpecOperator

#: A template adds no edge between tasks: `report` must run when `promote` was skipped.
PROMOTION = "{{ ti.xcom_pull(task_ids='promote') }}"
VERDICT = "{{ ti.xcom_pull(task_ids='judge') }}"
CANDIDATE = "{{ ti.xcom_pull(task_ids='select') }}"


def build_dag(file: ExperimentFile, *, doc_md: str | None = None) -> DAG:
    """Build the DAG of an experiment file. A wrong file gives a DAG that refuses new runs.

    The function does not raise: an error while Airflow parses the DAG file would hide the DAGs of
    all other experiments.

    :param doc_md: the documentation that the UI shows.
    """
    if file.experiment is None:
        return build_retraining_dag(file, doc_md=doc_md)
    try:
        dag = build_retraining_dag(file, doc_md=doc_md)
        dag.validate()  # type: ignore[no-untyped-call]
    except Exception as error:  # an exception here would hide the other DAGs
        problem = f"{file.source}: Airflow refuses it: {error}".splitlines()[0]
        return build_retraining_dag(file.refused(problem), doc_md=doc_md)
    return dag


def build_retraining_dag(file: ExperimentFile, *, doc_md: str | None = None) -> DAG:
    """Build `retrain_<experiment>`.

    The tasks do not depend on what is in the file. Airflow removes a task from a run in flight when
    the task is no longer in the DAG. So a run that began before the file became wrong goes on.

    :param doc_md: the documentation that the UI shows.
    """
    with _empty_dag(file, doc_md) as dag:
        freeze = _freezing_task(file)
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
        approve = AskBeforePromotingOperator(
            task_id="approve", plan=PLAN, candidate=CANDIDATE, verdict=judge.output
        )
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
            compute=file.compute,
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


def _empty_dag(file: ExperimentFile, doc_md: str | None) -> AbstractContextManager[DAG]:
    """Make the DAG without its tasks. A wrong file gives no schedule and a short form."""
    shared: dict[str, Any] = {
        "catchup": False,
        "allowed_run_types": RUN_TYPES,
        "max_active_runs": 1,
        "default_args": DEFAULT_ARGS,
        "render_template_as_native_obj": True,
    }
    experiment = file.experiment
    if experiment is None:
        return dag_with_form(
            file.dag_id,
            dag_display_name=f"{file.dag_id} (broken file: refuses new runs)",
            description=f"Refuses new runs: {file.problem}"[:250],
            schedule=None,
            form={"environment": environment_param(), "region_name": region_param()},
            doc_md=f"**This experiment cannot begin a run:** {file.problem}\n\n{doc_md or ''}",
            tags=["nightshift", "retraining", "broken"],
            **shared,
        )
    return dag_with_form(
        file.dag_id,
        description=f"{experiment.algo} on {experiment.env_id}: train, judge, promote",
        schedule=timetable_of(experiment.schedule),
        form=retraining_params(experiment),
        doc_md=doc_md,
        tags=["nightshift", "retraining"],
        **shared,
    )


def _freezing_task(file: ExperimentFile) -> S3FreezeSpecOperator | S3RefuseRunOperator:
    if file.experiment is None:
        return S3RefuseRunOperator(
            task_id="freeze_spec", experiment=file.name, problem=file.problem
        )
    return S3FreezeSpecOperator(
        task_id="freeze_spec",
        experiment=file.experiment.model_dump(mode="json"),
        folder=str(file.path.parent),
    )
