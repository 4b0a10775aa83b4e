"""The DAGs of replays: one with a form, and one for each experiment with a `replay_schedule`."""

import logging
from pathlib import Path

from airflow.sdk import DAG, chain

from rl_airflow.dag_builders.machine_tasks import add_machine_tasks
from rl_airflow.dag_builders.params import replaying_params
from rl_airflow.dag_builders.shared_arguments import DEFAULT_ARGS
from rl_airflow.registry.replay_operators import S3CompareReplayOperator, S3FreezeReplayOperator
from rl_airflow.run.experiment_files import ExperimentFile, read_experiment_files
from rl_airflow.run.schedules import timetable_of
from rl_lifecycle.experiment.compute_settings import Compute
from rl_lifecycle.experiment.experiment import Experiment

log = logging.getLogger(__name__)

#: The DAG with the form.
DAG_ID = "replay_champion"
PLAN = "{{ ti.xcom_pull(task_ids='freeze_replay', key='plan') }}"
TRIAL = "{{ ti.xcom_pull(task_ids='freeze_replay') }}"


def build_replay_dags(
    folder: Path, *, only_dag_id: str | None = None, doc_md: str | None = None
) -> dict[str, DAG]:
    """Build the DAG with the form, and one DAG for each experiment with a `replay_schedule`.

    :param folder: the folder of the experiment files.
    :param only_dag_id: the only DAG that a worker needs. If it is None, all DAGs are built.
    :param doc_md: the documentation that the UI shows.
    :return: DAG id → DAG.
    """
    dags = {DAG_ID: build_replay_dag(DAG_ID, doc_md=doc_md)}
    if only_dag_id == DAG_ID:
        return dags

    for file in read_experiment_files(folder):
        if only_dag_id not in (None, scheduled_dag_id(file)):
            continue
        if dag := build_scheduled_replay(file, doc_md=doc_md):
            dags[dag.dag_id] = dag
    return dags


def scheduled_dag_id(file: ExperimentFile) -> str | None:
    """Return the id of an experiment's scheduled replay DAG.

    :return: None if the experiment has no `replay_schedule`, or its file is wrong.
    """
    wanted = file.experiment is not None and file.experiment.replay_schedule is not None
    return file.dag_id.replace("retrain_", "replay_", 1) if wanted else None


def build_scheduled_replay(file: ExperimentFile, *, doc_md: str | None = None) -> DAG | None:
    """Build the scheduled replay DAG of an experiment.

    :return: None if the experiment has no `replay_schedule`, or Airflow refuses the DAG. Then the
        experiment's own DAG shows the reason, because its schedule and form are built in the same
        way. The other DAGs of the same file must still be built.
    """
    dag_id = scheduled_dag_id(file)
    if dag_id is None:
        return None
    try:
        dag = build_replay_dag(dag_id, file.experiment, doc_md=doc_md)
        dag.validate()  # type: ignore[no-untyped-call]
    except Exception as error:  # an exception here would hide the other DAGs
        log.warning(
            "%s: Airflow refuses %s: %s", file.path.name, dag_id, str(error).partition("\n")[0]
        )
        return None
    return dag


def build_replay_dag(
    dag_id: str, experiment: Experiment | None = None, *, doc_md: str | None = None
) -> DAG:
    """Build the DAG of a replay.

    :param experiment: the experiment whose champion is replayed on the schedule in its file. None:
        the form asks for the experiment, and the DAG has no schedule.
    """
    # When Airflow parses the DAG, the experiment of the form is not known yet. So the DAG takes the
    # pool slots of `auto`. If it took those of the largest machine, one experiment with a machine
    # larger than the pool would block all replays. AWS's quota is checked before the launch anyway.
    compute = experiment.compute if experiment else Compute()
    with DAG(
        dag_id,
        description="Train a version's first segments again, and compare",
        catchup=False,
        max_active_runs=1,
        schedule=timetable_of(experiment.replay_schedule) if experiment else None,
        params=replaying_params(experiment),
        default_args=DEFAULT_ARGS,
        tags=["nightshift", "care"],
        doc_md=doc_md,
        render_template_as_native_obj=True,
    ) as dag:
        freeze = S3FreezeReplayOperator(
            task_id="freeze_replay", experiment=experiment.name if experiment else None
        )
        wait = add_machine_tasks(freeze, plan=PLAN, trials=TRIAL, compute=compute)
        compare = S3CompareReplayOperator(
            task_id="compare",
            plan=PLAN,
            trial=TRIAL,
            must_compare=experiment is not None and experiment.replay_must_compare,
        )
        chain(wait, compare)
    return dag
