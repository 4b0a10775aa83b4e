"""Build the DAG of an experiment, or the placeholder of a file that is wrong."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, chain, task_group

from rl_airflow.dag_builders.forms import retraining_params
from rl_airflow.evaluation.judge_operator import LambdaJudgeCandidateOperator
from rl_airflow.evaluation.operators import (
    LambdaCheckEnvironmentOperator,
    LambdaSelectCandidateOperator,
)
from rl_airflow.machines.pools import AWAIT_PRIORITY, LAUNCH_PRIORITY, pool_arguments
from rl_airflow.registry.approval_operator import AskBeforePromotingOperator
from rl_airflow.registry.champion_operators import S3PromoteCandidateOperator
from rl_airflow.run.experiment_files import ExperimentFile
from rl_airflow.run.notices import SnsRunNotifier
from rl_airflow.run.outcome_operators import S3ReportRunOperator, VerdictOperator
from rl_airflow.run.placeholder_operator import ExplainProblemOperator
from rl_airflow.run.schedules import timetable_of
from rl_airflow.run.spec_operator import S3FreezeSpecOperator
from rl_airflow.trials.operators import (
    Ec2AwaitTrialOperator,
    Ec2LaunchTrialOperator,
    Ec2TerminateRunOperator,
)
from rl_lifecycle.experiment.experiment import Experiment

#: At least two, because Airflow can fail a deferred task for reasons of its own; soon, because
#: machines cost meanwhile.
DEFAULT_ARGS: dict[str, Any] = {
    "owner": "nightshift",
    "retries": 2,
    "retry_delay": timedelta(seconds=10),
}
#: The run's plan, or None when there is none (the operators that clean up run all the same).
PLAN = "{{ ti.xcom_pull(task_ids='freeze_spec', key='plan') }}"
PROMOTION = "{{ ti.xcom_pull(task_ids='promote') }}"
#: How fast the environment is. No edge of its own: `select` must run when a trial failed.
ENVIRONMENT = "{{ ti.xcom_pull(task_ids='check_environment') }}"
AWAITED = "await"


def build_dag(file: ExperimentFile, *, doc_md: str | None = None) -> DAG:
    """Build the DAG of an experiment file, whatever is in it: one that Airflow refuses would
    silence all the others.

    :param doc_md: what the UI shows beside the DAG.
    """
    if file.experiment is None:
        return build_placeholder_dag(file, doc_md=doc_md)
    try:
        dag = build_retraining_dag(file.experiment, file.path.parent, doc_md=doc_md)
        dag.validate()  # type: ignore[no-untyped-call]
    except Exception as error:
        problem = (
            f"{file.path.parent.name}/{file.path.name}: Airflow refuses it: {error}".splitlines()[0]
        )
        return build_placeholder_dag(file._replace(problem=problem), doc_md=doc_md)
    return dag


def build_retraining_dag(experiment: Experiment, folder: Path, *, doc_md: str | None = None) -> DAG:
    """Build `retrain_<experiment>`.

    :param folder: where the experiment's file lies.
    :param doc_md: what the UI shows beside the DAG.
    """
    with DAG(
        f"retrain_{experiment.name}",
        description=f"{experiment.algo} on {experiment.env_id}: train, judge, promote",
        schedule=timetable_of(experiment.schedule),
        catchup=False,
        max_active_runs=1,
        params=retraining_params(experiment),
        default_args=DEFAULT_ARGS,
        doc_md=doc_md,
        tags=["nightshift", "retraining"],
        render_template_as_native_obj=True,
    ) as dag:
        freeze = S3FreezeSpecOperator(
            task_id="freeze_spec", experiment=experiment.model_dump(mode="json"), folder=str(folder)
        )
        check = LambdaCheckEnvironmentOperator(task_id="check_environment", plan=PLAN)
        terminate = Ec2TerminateRunOperator(task_id="terminate", plan=PLAN)

        @task_group(group_id="train", prefix_group_id=False)
        def train(trial: str) -> None:
            launch = Ec2LaunchTrialOperator(
                task_id="launch",
                plan=PLAN,
                trial=trial,
                map_index_template="{{ task.trial }}",
                **pool_arguments(experiment.compute, LAUNCH_PRIORITY),
            )
            wait = Ec2AwaitTrialOperator(
                task_id="await",
                plan=PLAN,
                trial=trial,
                retries=5,
                map_index_template="{{ task.trial }}",
                **pool_arguments(experiment.compute, AWAIT_PRIORITY),
            )
            chain(launch.as_setup(), wait)  # type: ignore[no-untyped-call]

        training = train.expand(trial=freeze.output)
        candidate = LambdaSelectCandidateOperator(
            task_id="select",
            plan=PLAN,
            awaited_task_id=AWAITED,
            environment=ENVIRONMENT,
            trigger_rule="all_done_min_one_success",
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
            task_id="report", plan=PLAN, promotion=PROMOTION, trigger_rule="all_done"
        )
        verdict = VerdictOperator(
            task_id="verdict",
            freezing_task_id="freeze_spec",
            awaited_task_id=AWAITED,
            promoting_task_id="promote",
            terminating_task_id="terminate",
            required={
                "the frozen spec": "freeze_spec",
                "the candidate": "select",
                "the verdict": "judge",
            },
            trigger_rule="all_done",
            retries=0,
            on_failure_callback=SnsRunNotifier(event="failed"),
        )
        chain(freeze, check, training, candidate, judge, approve, promote, report, verdict)
        chain(training, terminate.as_teardown(), report)
        # A run that a person marks as failed skips whatever is no teardown, and Airflow would call
        # it a success.
        verdict.as_teardown(on_failure_fail_dagrun=True)
    return dag


def build_placeholder_dag(file: ExperimentFile, *, doc_md: str | None = None) -> DAG:
    """Build the DAG of a file that is wrong: its one task fails with the line that says what."""
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
