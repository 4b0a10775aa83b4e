"""Interrupt a small training on purpose, and see whether it goes on as fast as it should. Costs
about a cent.

**How to trigger it.** By hand, or by its weekly schedule once it is unpaused. The form says how
  fast is fast enough.

**What it does.** Trains CartPole on one machine, terminates that machine as soon as it has
  committed a checkpoint, waits until
another one has finished the training, and measures the seconds from the termination to the first
new step.

**What a failure means.** `measure` failed: recovery was slower than its objective; its log says
  which part took long.
`prove_none_left` failed: nobody proved that the machines are gone; clear `terminate`, then it. Any
other task failed: interruptions of real trainings would fail alike, so look at it before the next
night.
"""

from airflow.sdk import DAG, chain

from rl_airflow.dag_builders.forms import drill_params
from rl_airflow.dag_builders.retrain import DEFAULT_ARGS, PLAN
from rl_airflow.machines.pools import AWAIT_PRIORITY, LAUNCH_PRIORITY, pool_arguments
from rl_airflow.run.outcome_operators import ProveNoneLeftOperator
from rl_airflow.run.schedules import timetable_of
from rl_airflow.run.spec_operator import S3FreezeSpecOperator
from rl_airflow.trials.drill_experiment import drill_experiment
from rl_airflow.trials.drill_operators import Ec2InterruptTrialOperator, S3MeasureRecoveryOperator
from rl_airflow.trials.operators import (
    Ec2AwaitTrialOperator,
    Ec2LaunchTrialOperator,
    Ec2TerminateRunOperator,
)
from rl_lifecycle.experiment.experiment import Compute

TRIAL = "seed-0"
COMPUTE = Compute.model_validate(drill_experiment()["compute"])

with DAG(
    "drill_interruption",
    description="Interrupt a small training and measure its recovery",
    schedule=timetable_of("0 5 * * 1"),
    catchup=False,
    max_active_runs=1,
    params=drill_params(),
    default_args=DEFAULT_ARGS,
    tags=["nightshift", "care"],
    doc_md=__doc__,
    render_template_as_native_obj=True,
) as dag:
    freeze = S3FreezeSpecOperator(
        task_id="freeze_spec", experiment=drill_experiment(), folder="", with_form=False
    )
    launch = Ec2LaunchTrialOperator(
        task_id="launch", plan=PLAN, trial=TRIAL, **pool_arguments(COMPUTE, LAUNCH_PRIORITY)
    )
    interrupt = Ec2InterruptTrialOperator(task_id="interrupt_machine", plan=PLAN, trial=TRIAL)
    wait = Ec2AwaitTrialOperator(
        task_id="await",
        plan=PLAN,
        trial=TRIAL,
        retries=5,
        **pool_arguments(COMPUTE, AWAIT_PRIORITY),
    )
    terminate = Ec2TerminateRunOperator(task_id="terminate", plan=PLAN)
    none_left = ProveNoneLeftOperator(
        task_id="prove_none_left", terminating_task_id="terminate", trigger_rule="all_done"
    )
    measure = S3MeasureRecoveryOperator(task_id="measure", plan=PLAN, trial=TRIAL, retries=0)
    chain(freeze, launch, interrupt, wait, terminate.as_teardown())
    chain(wait, measure)
    chain(terminate, none_left)
