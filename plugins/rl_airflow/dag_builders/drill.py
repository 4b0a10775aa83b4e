"""The DAG that interrupts a small training on purpose and measures its recovery."""

from airflow.sdk import DAG, chain

from rl_airflow.dag_builders.machine_tasks import add_machine_tasks
from rl_airflow.dag_builders.params import drill_params
from rl_airflow.dag_builders.shared_arguments import DEFAULT_ARGS, PLAN, RUN_TYPES, dag_with_form
from rl_airflow.run.schedules import timetable_of
from rl_airflow.run.spec_operator import S3FreezeSpecOperator
from rl_airflow.trials.drill_experiment import drill_experiment
from rl_airflow.trials.drill_operators import Ec2InterruptTrialOperator, S3MeasureRecoveryOperator
from rl_lifecycle.experiment.compute_settings import Compute

TRIAL = "seed-0"
COMPUTE = Compute.model_validate(drill_experiment()["compute"])


def build_drill_dag(*, doc_md: str | None = None) -> DAG:
    """Build `drill_interruption`.

    :param doc_md: the documentation that the UI shows.
    """
    with dag_with_form(
        "drill_interruption",
        description="Interrupt a small training and measure its recovery",
        schedule=timetable_of("0 5 * * 1"),
        catchup=False,
        allowed_run_types=RUN_TYPES,
        max_active_runs=1,
        form=drill_params(),
        default_args=DEFAULT_ARGS,
        tags=["nightshift", "care"],
        doc_md=doc_md,
        render_template_as_native_obj=True,
    ) as dag:
        freeze = S3FreezeSpecOperator(
            task_id="freeze_spec", experiment=drill_experiment(), folder="", with_form=False
        )
        interrupt = Ec2InterruptTrialOperator(task_id="interrupt_machine", plan=PLAN, trial=TRIAL)
        measure = S3MeasureRecoveryOperator(task_id="measure", plan=PLAN, trial=TRIAL, retries=0)
        wait = add_machine_tasks(
            freeze, plan=PLAN, trials=TRIAL, compute=COMPUTE, interrupt=interrupt
        )
        chain(wait, measure)
    return dag
