"""The operator that asks a person before a promotion, if the experiment or the form requires it."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context

from rl_airflow.infrastructure.xcom_fields import XComField, value_of
from rl_airflow.run.links import report_link
from rl_airflow.run.run_resources import RunPlan
from rl_lifecycle.experiment.experiment import Experiment
from rl_lifecycle.experiment.spec import Artifact
from rl_lifecycle.storage.layout import page_of_report

APPROVE, REJECT = "Approve", "Reject"


class AskBeforePromotingOperator(HITLOperator):
    """Wait for a person to approve the promotion.

    It does not ask if approval is off, or if the gate did not say PROMOTE.

    The run's spec decides whether to ask and for how long. A person answers in the UI (Required
    Actions) or over REST. Without an answer there is no approval, so a task that was marked as
    successful by hand promotes nothing. A retry asks again; a clear deletes the answer.

    :param plan: the run's plan, for the link to the report.
    :param verdict: the result of `judge`.
    """

    template_fields: Collection[str] = ("subject", "body", "plan", "verdict")
    plan, verdict = XComField(), XComField()

    def __init__(self, *, plan: Any, verdict: Any, **kwargs: Any) -> None:
        super().__init__(
            subject="Promote the candidate of {{ dag_run.run_id }}?",
            options=[APPROVE, REJECT],
            defaults=REJECT,
            **kwargs,
        )
        self.plan, self.verdict = plan, verdict

    def execute(self, context: Context) -> Any:
        """Ask if the experiment requires an approval."""
        if self.verdict["decision"] != "PROMOTE":
            return {"approved": False, "by": "the gate"}
        experiment = self._experiment()
        if not experiment.approval:
            return {"approved": True, "by": "the gate, approval is off"}
        self.response_timeout = timedelta(hours=experiment.approval_hours)
        self.body = _question(
            RunPlan.from_value(value_of(self.plan), "the run's plan"),
            self.verdict,
            experiment.approval_hours,
            context["params"].get("origin") or "",
        )
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Take the answer of a person, or the default after the time is over."""
        answer = super().execute_complete(context, event)
        user = answer["responded_by_user"]
        if not user:
            return {
                "approved": False,
                "by": f"no person answered within {self._experiment().approval_hours:.3g} hours",
            }
        name = name_of(user)
        return {"approved": APPROVE in answer["chosen_options"], "by": name, "person": name}

    def _experiment(self) -> Experiment:
        plan = RunPlan.from_value(value_of(self.plan), "the run's plan")
        return plan.get_spec(plan.store(plan.session(None))).experiment


def name_of(user: dict[str, Any]) -> str:
    """Return the name of a person who answered."""
    return str(user.get("name") or user.get("id") or "unknown")


def _question(plan: RunPlan, verdict: dict[str, Any], hours: float, origin: str) -> str:
    """Return the question as Markdown: the verdict, the link to the report, and the time limit.

    :param origin: the importer's text about an imported policy. It is quoted, so that it
        does not look like Nightshift's own text.
    """
    report = Artifact.model_validate(verdict["report"])
    page = page_of_report(report.key)
    quoted = "\n".join(f"> {line}" for line in origin.splitlines())
    imported = (
        f"This policy was imported. The person who triggered the import wrote:\n\n{quoted}\n\n"
        if origin
        else ""
    )
    found = verdict.get("summary") or verdict["reason"]
    return (
        f"{imported}{found}\n\n"
        f"[Report]({report_link(plan, page)}) (`s3://{plan.bucket}/{page}`)\n\n"
        f"No answer within {hours:.3g} hours means no: the champion stays."
    )
