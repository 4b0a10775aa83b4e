"""Add the tasks that launch machines, wait for training, terminate and prove that none is left.

The chain is `launch` → `await` → `terminate` → the proof. The retraining uses it for each trial,
replay and drill use it for one trial.
"""

from typing import Any, cast

from airflow.sdk import BaseOperator, TaskGroup, XComArg, chain, task_group

from rl_airflow.machines.pools import AWAIT_PRIORITY, LAUNCH_PRIORITY, pool_arguments
from rl_airflow.run.outcome_operators import ProveNoneLeftOperator
from rl_airflow.trials.operators import (
    Ec2AwaitTrialOperator,
    Ec2LaunchTrialOperator,
    Ec2TerminateRunOperator,
)
from rl_lifecycle.experiment.compute_settings import Compute

#: The tasks that other tasks read or clear by their ids.
AWAIT, TERMINATE = "await", "terminate"


def add_machine_tasks(
    after: BaseOperator,
    *,
    plan: str,
    trials: str | XComArg,
    compute: Compute,
    environment: str | None = None,
    interrupt: BaseOperator | None = None,
    proof: BaseOperator | None = None,
) -> BaseOperator | TaskGroup:
    """Add the tasks from `launch` to the proof that no machine is left, to the DAG of the context.

    :param after: the task before the first launch.
    :param plan: the template of the run's plan.
    :param trials: the template of one trial's name, or the output with the names of several trials.
        Several trials give a task group that is mapped over them.
    :param environment: the template of the environment's report. None: its speed is not known.
    :param interrupt: a task between `launch` and `await`. It is possible only with one trial.
    :param proof: the task after `terminate`, if the DAG proves by itself that no machine is left.
        If it is None, `prove_none_left` is added, which fails while a machine of the run is left.
    :return: what ends when the training has ended: the task `await`, or the task group.
    """
    training: BaseOperator | TaskGroup
    terminate = Ec2TerminateRunOperator(task_id=TERMINATE, plan=plan)
    if isinstance(trials, XComArg):
        training = _train_each(trials, plan, compute, environment)
        chain(after, training, terminate.as_teardown())
    else:
        launch, training = _train_one(trials, plan, compute, environment)
        between = [interrupt] if interrupt else []
        chain(after, launch, *between, training, terminate.as_teardown())

    proof = proof or ProveNoneLeftOperator(
        task_id="prove_none_left", terminating_task_id=TERMINATE, trigger_rule="all_done"
    )
    chain(terminate, proof)
    return training


def _train_each(trials: XComArg, plan: str, compute: Compute, environment: str | None) -> TaskGroup:
    @task_group(group_id="train", prefix_group_id=False)
    def train(trial: str) -> None:
        label = "{{ task.trial }}"
        launch, wait = _train_one(trial, plan, compute, environment, map_index_template=label)
        # `launch` is no setup task: Airflow requires each instance of a setup task to succeed for
        # every task after it, so one refused launch would cost all trials.
        chain(launch, wait)

    return cast(TaskGroup, train.expand(trial=trials))


def _train_one(
    trial: str, plan: str, compute: Compute, environment: str | None, **arguments: Any
) -> tuple[Ec2LaunchTrialOperator, Ec2AwaitTrialOperator]:
    launch = Ec2LaunchTrialOperator(
        task_id="launch",
        plan=plan,
        trial=trial,
        environment=environment,
        **pool_arguments(compute, LAUNCH_PRIORITY),
        **arguments,
    )
    wait = Ec2AwaitTrialOperator(
        task_id=AWAIT,
        plan=plan,
        trial=trial,
        retries=5,
        **pool_arguments(compute, AWAIT_PRIORITY),
        **arguments,
    )
    return launch, wait
