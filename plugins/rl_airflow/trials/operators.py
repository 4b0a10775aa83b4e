"""The operators of a trial: launch its machine, wait for it, and end all machines of the run."""

import logging
import signal
import time
from collections.abc import Sequence
from typing import Any, NoReturn

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from rl_airflow.errors import InstancesLeftError, first_line
from rl_airflow.infrastructure.sessions import RoleSession
from rl_airflow.infrastructure.xcom_fields import XComField, value_of
from rl_airflow.machines.instances import Machines
from rl_airflow.run.abandoned_runs import read_abandoned_runs
from rl_airflow.run.evaluation_money import longest_episode_s, settle_evaluations
from rl_airflow.run.links import TRIAL_LINKS, is_of_aws, show_links, trial_links
from rl_airflow.run.notices import send_notice
from rl_airflow.run.run_operator import RunOperator
from rl_airflow.run.run_resources import RunPlan
from rl_airflow.run.trial_ends import END_KEY, TrialEnd
from rl_airflow.trials.drill_experiment import DRILL
from rl_airflow.trials.progress_reports import end_of_trial, read_log_tail
from rl_airflow.trials.supervisor import TrialSupervisor, make_supervisor
from rl_airflow.trials.task_state import (
    MachineMemory,
    TaskMemory,
    is_first_try_after_clear,
    recall,
    remember,
)
from rl_airflow.trials.trigger import Ec2TrialTrigger
from rl_lifecycle.errors import BudgetExceededError, LaunchRefusedError
from rl_lifecycle.evaluation.requests import EnvironmentReport
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.machines.machine_attempts import ENDED_BY_HAND, Attempt
from rl_lifecycle.storage.layout import LEARNER_SEAT
from rl_lifecycle.trials.actions import Action, ActionKind, decide_action
from rl_lifecycle.trials.evidence import Evidence
from rl_lifecycle.trials.recoveries import find_recoveries

log = logging.getLogger(__name__)


class TrialOperator(RunOperator):
    """The base of a trial's operators. It adds the trial's supervisor to the run's plan."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._working: TrialSupervisor | None = None

    def _supervisor(
        self,
        plan: RunPlan,
        trial: str,
        spec: Spec | None = None,
        context: Context | None = None,
        episode_s: float | None = None,
    ) -> TrialSupervisor:
        return make_supervisor(
            plan,
            self._session(plan),
            trial,
            log,
            spec=spec,
            memory=MachineMemory(context),
            episode_s=episode_s,
        )

    def _drop_and_exit(self, trial: str, reason: str) -> NoReturn:
        """End this worker's machine, even one that EC2 is still creating, and exit the process.

        Airflow's signal handler would return to the interrupted line. The code there would find its
        machine gone and launch another machine.
        """
        if self._launcher is not None:
            self._launcher.hurry()  # Airflow waits only a few seconds for this process
        try:
            (self._working or self._supervisor(self._plan(), trial)).drop(None, reason)
        except Exception as error:  # this process must exit after any error
            log.warning(
                "%s: its machine was not terminated (%s); the task terminate ends it",
                trial,
                first_line(error),
            )
        raise SystemExit(128 + signal.SIGTERM)

    def _show_links(
        self, context: Context, plan: RunPlan, supervisor: TrialSupervisor, evidence: Evidence
    ) -> None:
        newest = evidence.newest
        if newest is not None:
            endpoint_url = self._session(plan).client("ec2").meta.endpoint_url
            self.links = trial_links(
                plan,
                supervisor.spec,
                supervisor.trial.trial,
                newest.attempt,
                newest.outcome.instance_id,
                of_aws=is_of_aws(endpoint_url),
            )
            show_links(context, self.links)


class Ec2LaunchTrialOperator(TrialOperator):
    """Request a trial's machines exactly once, and do not wait for them. This starts billing.

    A retry, or a second run of the same task, adopts the existing machine. After a clear, a failed
    or cancelled trial gets another attempt, which resumes from the last checkpoint. `on_kill` ends
    the machine, even one that EC2 has not returned or does not show yet. If Airflow then retries
    the task, it requests another machine. Missing capacity is no failure here: the task `await`
    waits for it.

    :param environment: the report of `check_environment`. Its speed tells what the evaluations of
        the run may cost. None: they may run until the function's time limit.
    """

    template_fields: Sequence[str] = ("plan", "trial", "environment")
    environment = XComField()

    def __init__(self, *, trial: Any, environment: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.trial, self.environment = trial, environment

    def execute(self, context: Context) -> dict[str, Any]:
        """Launch or adopt the machine.

        :return: trial, attempt, instance id and state of the newest attempt.
        """
        plan = self._plan()
        supervisor = self._working = self._supervisor(
            plan, self.trial, context=context, episode_s=self._episode_s()
        )
        try:
            action, evidence = supervisor.advance(again=True)
        except (BudgetExceededError, LaunchRefusedError) as error:
            raise AirflowFailException(f"{self.trial}: {error}") from None
        newest = evidence.newest
        instance_id = newest.outcome.instance_id if newest is not None else None
        if action.kind is ActionKind.FAIL:
            raise AirflowFailException(f"{self.trial}: {action.finding.reason}")
        return {
            "trial": self.trial,
            "attempt": newest.attempt if newest else None,
            "instance_id": instance_id,
            "state": action.finding.state.value,
        }

    def _episode_s(self) -> float | None:
        report = (
            EnvironmentReport.model_validate(value_of(self.environment))
            if self.environment
            else None
        )
        return longest_episode_s(report)

    def on_kill(self) -> None:
        """End the machine that was being requested."""
        self._drop_and_exit(self.trial, "the launching task was killed")


class Ec2AwaitTrialOperator(TrialOperator):
    """Wait until a trial is trained. Relaunch lost machines, and fail when the code fails.

    A retry continues the wait. It keeps the stall clock and the position in the log, which are in
    the task's state store. A clear starts another attempt if the trial had failed. `on_kill`, in
    the worker or deferred, ends the machine. The checkpoints stay. If Airflow retries the task (its
    worker was stopped or seemed dead), another machine resumes from them.

    :param trial: the trial's name.
    :param deferrable: True waits in the triggerer. False waits in the worker and holds a slot.
    :param waiter_delay: longest pause between looks, seconds. It is shorter for a new machine.
    """

    template_fields: Sequence[str] = ("plan", "trial")
    operator_extra_links = TRIAL_LINKS

    def __init__(
        self, *, trial: Any, deferrable: bool = True, waiter_delay: float = 5.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.trial, self.deferrable, self.waiter_delay = trial, deferrable, waiter_delay

    def execute(self, context: Context) -> dict[str, Any]:
        """Look, act, and defer until there is more to do."""
        return self._go_on(context, recall(context), again=is_first_try_after_clear(context))

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Continue after the trigger has fired: look and act again."""
        return self._go_on(context, TaskMemory.from_value(event or {}, "the trigger's event"))

    def _go_on(
        self, context: Context, memory: TaskMemory, *, again: bool = False
    ) -> dict[str, Any]:
        plan = self._plan()
        supervisor = self._working = self._supervisor(plan, self.trial, context=context)
        while True:
            try:
                action, evidence = supervisor.advance(
                    memory.progress, memory.collectors, again=again
                )
            except (BudgetExceededError, LaunchRefusedError) as error:
                self._report_end(context, supervisor, *self._stopped(supervisor))
                raise AirflowFailException(f"{self.trial}: {error}") from None
            self._show_links(context, plan, supervisor, evidence)
            for seat, attempt in supervisor.replaced:
                self._report_relaunch(plan, seat, attempt)
            if action.kind is not ActionKind.WAIT:
                return self._end(context, supervisor, action, evidence)
            remember(context, memory)
            again, memory = False, self._wait(evidence, memory)

    def _report_relaunch(self, plan: RunPlan, seat: int, attempt: Attempt) -> None:
        """Report in the log and by a notice that a machine was lost and another one requested."""
        lost = attempt.outcome
        if seat == LEARNER_SEAT:
            message = (
                f"{self.trial}: {lost.instance_id} was lost at step {lost.reached_step}: "
                f"{lost.reason}; going on from step {lost.committed_step}"
            )
        else:
            message = (
                f"{self.trial}: {lost.instance_id}, which collected as machine {seat}, was lost "
                f"after {lost.reached_step or 0:,} steps: {lost.reason}; another one is requested"
            )
        log.warning("%s", message)
        # A person's clear and the drill end a machine on purpose, so no notice is sent.
        if lost.reason != ENDED_BY_HAND and plan.experiment != DRILL:
            send_notice(plan, "interrupted", message)

    def _wait(self, evidence: Evidence, memory: TaskMemory) -> TaskMemory:
        trigger = Ec2TrialTrigger.of(
            self._plan(),
            self.trial,
            evidence,
            memory.told,
            waiter_delay=self.waiter_delay,
            aws_conn_id=self.aws_conn_id,
        )
        if self.deferrable:
            self.defer(trigger=trigger, method_name="execute_complete")
        return _run_here(trigger)

    def _end(
        self, context: Context, supervisor: TrialSupervisor, action: Action, evidence: Evidence
    ) -> dict[str, Any]:
        end = self._report_end(context, supervisor, action, evidence)
        for recovery in find_recoveries(evidence.attempts):
            log.info(
                "%s: attempt %d %s: %s steps lost, %s s to the first new step",
                self.trial,
                recovery.attempt,
                recovery.end,
                recovery.steps_lost,
                recovery.seconds_to_first_step,
            )
        if action.kind is ActionKind.FINISH:
            return end.model_dump(mode="json")
        for line in read_log_tail(supervisor.store, supervisor.trial, evidence):
            log.error("%s | %s", self.trial, line)
        raise AirflowFailException(f"{self.trial}: {action.finding.reason}")

    def _report_end(
        self, context: Context, supervisor: TrialSupervisor, action: Action, evidence: Evidence
    ) -> TrialEnd:
        """Leave the trial's end to later tasks: a task that fails returns nothing, so it pushes."""
        end = end_of_trial(supervisor.trial, evidence, action.finding)
        if action.kind is not ActionKind.FINISH:
            context["ti"].xcom_push(key=END_KEY, value=end.model_dump(mode="json"))
        return end

    @staticmethod
    def _stopped(supervisor: TrialSupervisor) -> tuple[Action, Evidence]:
        evidence = supervisor.observe()
        return decide_action(evidence).failed(), evidence

    def on_kill(self) -> None:
        """End the machine that this worker watches or has launched. A machine that a later worker
        launched is not ended.
        """
        self._drop_and_exit(self.trial, "the awaiting task was killed")


class Ec2TerminateRunOperator(TrialOperator):
    """End a run's machines, prove by a list that none is left, and settle the run's ledger.

    It also runs when training failed. A retry or a clear can repeat it safely.

    :param waiter_max_seconds: longest time for the termination, seconds.
    """

    def __init__(self, *, waiter_max_seconds: float = 300.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.waiter_max_seconds = waiter_max_seconds

    def execute(self, context: Context) -> dict[str, Any]:
        """End the machines and prove it. :return: the ids of machines that are left: none.

        :raises InstancesLeftError: if machines are still there when the time is up.
        """
        del context
        if not self.plan:
            log.info("instances left: 0 (no run was planned)")
            return {"instances_left": [], "attempts": {}}
        plan = self._plan()
        session = self._session(plan)
        spec = plan.get_spec(plan.store(session))
        supervisors = [self._supervisor(plan, trial, spec) for trial in plan.trials]
        end_run(plan, session, supervisors, "the run ended", self.waiter_max_seconds)
        attempts = {one.trial.trial: len(one.read_attempts()) for one in supervisors}
        return {"instances_left": [], "attempts": attempts}


class Ec2CloseAbandonedRunsOperator(BaseOperator):
    """End the machines of runs whose DAG is gone, settle their ledgers, and send notices.

    The scheduler has failed these runs and named them in the configuration of this run. A retry or
    a clear can repeat it safely, and sends the notices again.

    :param waiter_max_seconds: longest time for the termination, seconds.
    :param aws_conn_id: a connection of the launcher's; None: `nightshift_launcher` if defined, else
        the assumed role.
    """

    def __init__(
        self, *, waiter_max_seconds: float = 300.0, aws_conn_id: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.waiter_max_seconds, self.aws_conn_id = waiter_max_seconds, aws_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Close the runs. :return: the ids of the closed runs.

        :raises AirflowException: naming the runs that could not be closed; a retry repeats them.
        """
        failed, closed = {}, []
        for run in read_abandoned_runs(context["dag_run"].conf):
            log.warning("%s", run.reason)
            try:
                if run.plan is not None:
                    self._close(RunPlan.from_value(run.plan, "the run's plan"), run.reason)
            except Exception as error:  # the other runs must still be closed
                failed[run.run_id] = first_line(error)
                continue
            closed.append(run.run_id)
        if failed:
            raise AirflowException(
                "; ".join(f"{run_id}: {reason}" for run_id, reason in failed.items())
            )
        return {"closed": closed}

    def _close(self, plan: RunPlan, reason: str) -> None:
        session = plan.session("launcher", self.aws_conn_id)
        spec = plan.get_spec(plan.store(session))
        supervisors = [
            make_supervisor(plan, session, trial, log, spec=spec) for trial in plan.trials
        ]
        end_run(plan, session, supervisors, "the run's DAG is gone", self.waiter_max_seconds)
        send_notice(plan, "failed", reason)


def end_run(
    plan: RunPlan,
    session: RoleSession,
    supervisors: Sequence[TrialSupervisor],
    reason: str,
    wait_s: float,
) -> None:
    """End a run's machines, prove by a list that none is left, and settle the run's ledger.

    The machines are gone then, so a ledger that cannot be settled is only logged.

    :param session: a session of the launcher.
    :param supervisors: the supervisors of all trials.
    :param wait_s: longest time for the termination, seconds.
    :raises InstancesLeftError: if machines are still there when the time is up.
    """
    for supervisor in supervisors:
        supervisor.cancel(reason)
    left = Machines(session.client("ec2"), plan.environment).terminate_run(
        plan.experiment, plan.run, wait_s=wait_s, sleep=time.sleep
    )
    if left:
        raise InstancesLeftError(left)
    log.info("instances left: 0")
    for supervisor in supervisors:
        _settle_machines(supervisor)
    settle_evaluations(plan, session)


def _settle_machines(supervisor: TrialSupervisor) -> None:
    """Settle the money of a trial's machines, or log why not. They are gone in any case."""
    try:
        supervisor.settle_ledger()
    except Exception as error:  # S3 and the records fail in many ways
        log.error("the machines are not settled: %s; clear this task later", first_line(error))


def _run_here(trigger: Ec2TrialTrigger) -> TaskMemory:
    """Wait in the worker, with the same code that waits in the triggerer."""
    import asyncio

    async def first() -> Any:
        return await anext(trigger.run())

    return TaskMemory.from_value(asyncio.run(first()).payload, "the trigger's event")
