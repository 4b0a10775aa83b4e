"""The last operators of a run: report it, then end it with its outcome."""

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from rl_airflow.errors import RunIsRedError
from rl_airflow.infrastructure.xcom_fields import XComField
from rl_airflow.run.evaluation_money import settle_evaluations
from rl_airflow.run.ledger_files import LedgerFile, read_month
from rl_airflow.run.notes import keep_note
from rl_airflow.run.run_operator import RunOperator
from rl_airflow.run.task_facts import find_run_ending, read_steps
from rl_airflow.run.trial_ends import ends_of_trials
from rl_lifecycle.machines.ledger import describe_month
from rl_lifecycle.registry.promotion import PromotionOutcome
from rl_lifecycle.reports.run_outcomes import RunFacts, decide_outcome
from rl_lifecycle.reports.run_summary import render_summary, summarise_run
from rl_lifecycle.trials.states import TrialState

log = logging.getLogger(__name__)


class S3ReportRunOperator(RunOperator):
    """Write the run's report into the log and XCom, and the promoted version into the ledger.

    It runs in every case, and reports the results and the cost so far. A retry or a clear reports
    again.

    :param promotion: the result of `promote`.
    :param verdict: the result of `judge`.
    """

    template_fields: Sequence[str] = ("plan", "promotion", "verdict")
    promotion, verdict = XComField(), XComField()

    def __init__(self, *, promotion: Any = None, verdict: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.promotion, self.verdict = promotion, verdict

    def execute(self, context: Context) -> dict[str, Any]:
        """Report. :return: the run's summary as JSON; empty if the run was never frozen."""
        del context
        if not self.plan:
            log.warning(
                "the run was not frozen, so nothing was rented and there is no more to report: "
                "cost 0 USD; see the task freeze_spec"
            )
            return {}
        plan = self._plan()
        session = plan.session("launcher", self.aws_conn_id)
        store = plan.store(session)
        version = (self.promotion or {}).get("version")
        if version is not None and self.promotion["outcome"] == PromotionOutcome.PROMOTED:
            ledger = LedgerFile(store, plan.get_spec(store))
            ledger.change(lambda before: before.with_champion(version))
        settle_evaluations(plan, session)
        summary = summarise_run(store, plan.experiment, plan.run)
        judged = self.verdict or {}
        if judged.get("broken"):
            told = f"{judged['decision']}: {judged['reason']}"
            summary = summary.with_warnings((told, *judged.get("lost", ())))
        log.info("\n%s", render_summary(summary))
        log.info(
            "%s", describe_month(read_month(store, f"{plan.get_spec(store).created_at:%Y-%m}"))
        )
        return summary.model_dump(mode="json")


class VerdictOperator(BaseOperator):
    """End the run with its outcome: green, or red with the first cause first.

    The rule is :data:`rl_lifecycle.reports.run_outcomes.RULE`. The outcome and the cost are also
    the run's note. A retry or a clear looks again.
    """

    def execute(self, context: Context) -> str:
        """Look at every task of the run.

        :return: the decision and its reason in one line.
        :raises RunIsRedError: naming the first cause, and then what followed.
        """
        outcome = decide_outcome(read_facts(context))
        ti = context["ti"]
        judged = ti.xcom_pull(task_ids="judge") or {}
        plain = not outcome.red and not outcome.causes
        keep_note(
            context,
            (plain and judged.get("summary")) or outcome.text,
            f"\n{describe_cost(ti.xcom_pull(task_ids='report'))}",
        )
        if not outcome.red:
            return outcome.text
        text = f"this run did not do what was required: {outcome.text}"
        raise RunIsRedError(text, outcome.notice)


def read_facts(context: Context) -> RunFacts:
    """Read what the tasks before the verdict left. A result counts only if its task succeeded."""
    ti = context["ti"]
    trials = tuple(ti.xcom_pull(task_ids="freeze_spec") or ())
    steps = read_steps(context, trials, _cancelled(ti.xcom_pull(task_ids="report")))
    states = {step.task_id: step.state for step in steps}

    def result(task_id: str) -> dict[str, Any]:
        found = ti.xcom_pull(task_ids=task_id) if states[task_id] == "success" else None
        return found or {}

    finished = [end for end in ends_of_trials(context, "await") if end.state is TrialState.FINISHED]
    select, judge, promote = result("select"), result("judge"), result("promote")
    proof = result("terminate")
    return RunFacts(
        steps=steps,
        trials=trials if states["freeze_spec"] == "success" else (),
        attempts={end.trial: end.attempts for end in finished},
        candidate=select.get("digest"),
        selected_from=select.get("trials"),
        not_evaluated=tuple(select.get("not_evaluated") or ()),
        decision=judge.get("decision"),
        reason=judge.get("reason", ""),
        judged=judge.get("candidate"),
        broken=bool(judge.get("broken")),
        lost=tuple(judge.get("lost") or ()),
        promotion=promote.get("outcome"),
        promotion_reason=promote.get("reason", ""),
        promoted=promote.get("digest") if promote.get("outcome") == "PROMOTED" else None,
        proved=proof.get("attempts") or {},
        instances_left=proof.get("instances_left"),
        ended_by=find_run_ending(context),
    )


def describe_cost(summary: dict[str, Any] | None) -> str:
    """Describe the cost of a run in a few words.

    :param summary: the result of `report`. It is empty if the run was never frozen, and None if the
        report failed.

    >>> describe_cost({"usd": 0.5, "budget_usd": 2}), describe_cost({})
    ('cost 0.5000 USD of 2 USD allowed', 'cost 0 USD')
    """
    if summary is None:
        return "cost unknown (see the task report)"
    if "usd" not in summary:
        return "cost 0 USD"
    return f"cost {summary['usd']:.4f} USD of {summary['budget_usd']:g} USD allowed"


def _cancelled(summary: dict[str, Any] | None) -> dict[str, datetime]:
    """Find in the report when a person ended trials while they were awaited."""
    return {
        one["trial"]: datetime.fromisoformat(one["cancelled_at"])
        for one in (summary or {}).get("trials", ())
        if one.get("cancelled_at")
    }


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
