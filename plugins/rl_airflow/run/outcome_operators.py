"""The last operators of a run: report it, then fail it if a required step is missing."""

import logging
from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from rl_airflow.run.evaluation_money import EvaluationMoney
from rl_airflow.run.ledger_files import LedgerFile, read_month
from rl_airflow.run.run_operator import RunOperator
from rl_airflow.run.trial_ends import ends_of_trials
from rl_lifecycle.machines.ledger import describe_month
from rl_lifecycle.registry.promotion import PromotionOutcome
from rl_lifecycle.reports.run_summary import render_summary, summarise_run
from rl_lifecycle.trials.states import TrialState

log = logging.getLogger(__name__)


class S3ReportRunOperator(RunOperator):
    """Write the run's report into the log and XCom, and the promoted version into the ledger.

    It also runs after a failure, and reports the results so far. A retry or a clear reports again.
    """

    template_fields: Sequence[str] = ("plan", "promotion")

    def __init__(self, *, promotion: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.promotion = promotion

    def execute(self, context: Context) -> dict[str, Any]:
        """Report. :return: the run's summary as JSON; empty if the run was never frozen."""
        del context
        if not self.plan:
            log.warning(
                "the run was not frozen, so there is nothing to report; see the task freeze_spec"
            )
            return {}
        plan = self._plan()
        session = plan.session("launcher", self.aws_conn_id)
        store = plan.store(session)
        version = (self.promotion or {}).get("version")
        if version is not None and self.promotion["outcome"] == PromotionOutcome.PROMOTED:
            ledger = LedgerFile(store, plan.get_spec(store))
            ledger.change(lambda before: before.with_champion(version))
        if (money := EvaluationMoney.of_run(plan, session)) is not None:
            money.settle()
        summary = summarise_run(store, plan.experiment, plan.run)
        log.info("\n%s", render_summary(summary))
        log.info(
            "%s", describe_month(read_month(store, f"{plan.get_spec(store).created_at:%Y-%m}"))
        )
        return summary.model_dump(mode="json")


class VerdictOperator(BaseOperator):
    """Fail the run unless all required steps succeeded.

    Required: every trial finished, the candidate was judged, a better candidate was promoted (or
    the champion had changed meanwhile), and no machine is left. The teardown of the machines cannot
    show a failed training, because it succeeds anyway. A retry or a clear looks again.

    :param freezing_task_id: the task that returns the names of all trials. A trial that was never
        launched counts as missing.
    :param required: the required results: name for people → task id.
    """

    def __init__(
        self,
        *,
        freezing_task_id: str,
        awaited_task_id: str,
        required: dict[str, str],
        promoting_task_id: str,
        terminating_task_id: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.freezing_task_id, self.awaited_task_id, self.required = (
            freezing_task_id,
            awaited_task_id,
            required,
        )
        self.promoting_task_id, self.terminating_task_id = promoting_task_id, terminating_task_id

    def execute(self, context: Context) -> str:
        """Check the run.

        :return: the decision and its reason in one line.
        :raises AirflowFailException: naming every missing step.
        """
        problems = [
            *self._missing(context),
            *self._untrained(context),
            *self._unpromoted(context),
            *self._left(context),
        ]
        if problems:
            raise AirflowFailException(
                "this run did not do what was required: " + "; ".join(problems)
            )
        decision = context["ti"].xcom_pull(task_ids=self.required["the verdict"])
        return f"{decision['decision']}: {decision['reason']}"

    def _missing(self, context: Context) -> list[str]:
        return [
            f"{name} is missing (see the task {task_id})"
            for name, task_id in self.required.items()
            if context["ti"].xcom_pull(task_ids=task_id) is None
        ]

    def _untrained(self, context: Context) -> list[str]:
        ends = {end.trial: end for end in ends_of_trials(context, self.awaited_task_id)}
        trials = context["ti"].xcom_pull(task_ids=self.freezing_task_id) or ()
        silent = [
            f"{trial} never ended its training (see its tasks)"
            for trial in trials
            if trial not in ends
        ]
        untrained = [end for end in ends.values() if end.state is not TrialState.FINISHED]
        return silent + [
            f"{end.trial} {end.state.replace('_', ' ')}: {end.reason}" for end in untrained
        ]

    def _unpromoted(self, context: Context) -> list[str]:
        verdict = context["ti"].xcom_pull(task_ids=self.required["the verdict"])
        if verdict is None or verdict["decision"] != "PROMOTE":
            return []
        promotion = context["ti"].xcom_pull(task_ids=self.promoting_task_id)
        if promotion is None:
            return [
                (
                    "the candidate was judged better, and was not promoted (see the task "
                    f"{self.promoting_task_id})"
                )
            ]
        return []

    def _left(self, context: Context) -> list[str]:
        return what_is_left(context, self.terminating_task_id)


class ProveNoneLeftOperator(BaseOperator):
    """Fail the run unless its teardown proved that no machine is left.

    This task is needed because a failed teardown alone does not fail a run. A retry or a clear
    reads the proof again. So clear the teardown first.
    """

    def __init__(self, *, terminating_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.terminating_task_id = terminating_task_id

    def execute(self, context: Context) -> None:
        """Check the proof. :raises AirflowFailException: if it is missing, or machines are left."""
        if problems := what_is_left(context, self.terminating_task_id):
            raise AirflowFailException("; ".join(problems))


def what_is_left(context: Context, terminating_task_id: str) -> list[str]:
    """Return the problems of the teardown's proof. There are none if no machine is left."""
    proof = context["ti"].xcom_pull(task_ids=terminating_task_id)
    if proof is None:
        return [f"it is not proved that no machine is left (see the task {terminating_task_id})"]
    return (
        [f"instances left: {', '.join(proof['instances_left'])}"] if proof["instances_left"] else []
    )
