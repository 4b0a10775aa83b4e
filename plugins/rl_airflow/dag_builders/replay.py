"""The DAGs of replays: one with a form, and one for each experiment with a `replay_schedule`."""

import logging
from collections.abc import Sequence
from pathlib import Path

from airflow.sdk import DAG, Param, chain

from rl_airflow.dag_builders.machine_tasks import add_machine_tasks
from rl_airflow.dag_builders.params import replaying_params
from rl_airflow.dag_builders.shared_arguments import DEFAULT_ARGS, RUN_TYPES, dag_with_form
from rl_airflow.infrastructure.experiment_paths import list_experiment_names
from rl_airflow.registry.replay_operators import S3CompareReplayOperator, S3FreezeReplayOperator
from rl_airflow.run.experiment_files import (
    REPLAY,
    REPLAY_PREFIX,
    ExperimentFile,
    read_experiment_files,
)
from rl_airflow.run.schedules import timetable_of
from rl_lifecycle.experiment.compute_settings import Compute

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
    dags = {DAG_ID: build_replay_dag(DAG_ID, known=list_experiment_names(folder), doc_md=doc_md)}
    if only_dag_id == DAG_ID:
        return dags

    for file in read_experiment_files(folder, holding=REPLAY):
        if only_dag_id not in (None, scheduled_dag_id(file)):
            continue
        if dag := build_scheduled_replay(file, doc_md=doc_md):
            dags[dag.dag_id] = dag
    return dags


def scheduled_dag_id(file: ExperimentFile) -> str | None:
    """Return the id of an experiment's scheduled replay DAG.

    :return: None if the file asks for no `replay_schedule`. A file that is wrong for another reason
        keeps its DAG, so that a replay in flight goes on.
    """
    return f"{REPLAY_PREFIX}{file.name}" if file.has_replays else None


def build_scheduled_replay(file: ExperimentFile, *, doc_md: str | None = None) -> DAG | None:
    """Build the scheduled replay DAG of an experiment.

    If the file is wrong, or Airflow refuses the DAG, the DAG has no schedule. Then the experiment's
    own DAG shows the reason.

    :return: None if the experiment has no `replay_schedule`.
    """
    dag_id = scheduled_dag_id(file)
    if dag_id is None:
        return None
    try:
        dag = build_replay_dag(dag_id, file, doc_md=doc_md)
        dag.validate()  # type: ignore[no-untyped-call]
    except Exception as error:  # an exception here would hide the other DAGs
        reason = str(error).partition("\n")[0]
        log.warning("%s: Airflow refuses %s: %s", file.path.name, dag_id, reason)
        return build_replay_dag(dag_id, file.refused(reason), doc_md=doc_md)
    return dag


def build_replay_dag(
    dag_id: str,
    file: ExperimentFile | None = None,
    *,
    known: Sequence[str] = (),
    doc_md: str | None = None,
) -> DAG:
    """Build the DAG of a replay.

    :param file: the file of the experiment whose champion is replayed on the schedule in it. None:
        the form asks for the experiment, and the DAG has no schedule.
    :param known: the experiments that the form proposes.
    """
    # When Airflow parses the DAG, the experiment of the form is not known yet. So the DAG takes the
    # pool slots of `auto`. If it took those of the largest machine, one experiment with a machine
    # larger than the pool would block all replays. AWS's quota is checked before the launch anyway.
    compute = file.compute if file else Compute()
    experiment = file.experiment if file else None
    with dag_with_form(
        dag_id,
        description="Train a version's first segments again, and compare",
        catchup=False,
        allowed_run_types=RUN_TYPES,
        max_active_runs=1,
        schedule=timetable_of(experiment.replay_schedule) if experiment else None,
        form=_form_of(file, known),
        default_args=DEFAULT_ARGS,
        tags=["nightshift", "care"],
        doc_md=doc_md,
        render_template_as_native_obj=True,
    ) as dag:
        freeze = S3FreezeReplayOperator(
            task_id="freeze_replay", experiment=file.name if file else None
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


def _form_of(file: ExperimentFile | None, known: Sequence[str]) -> dict[str, Param]:
    """Return the form. The DAG of a wrong file does not ask for the experiment either."""
    form = replaying_params(file.experiment if file else None, known)
    if file is not None:
        form.pop("experiment", None)
    return form
