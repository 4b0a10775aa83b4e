"""Ask a person before a promotion, when the experiment or the form wants that."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context

from rl_airflow.links import report_link
from rl_airflow.run_plan import RunPlan
from rl_lifecycle.specs import Artifact

APPROVE, REJECT = "Approve", "Reject"


class AskBeforePromotingOperator(HITLOperator):
    """Wait for a person to approve the promotion; does not ask when nobody wants to be asked, or nothing is promoted.

    The answer is given in the UI (Required Actions) or over REST, within the time that the form says; no answer is a no.
    An answer that is missing is no approval, so a task that was marked as successful by hand promotes nothing. A retry
    asks again; a clear withdraws the answer.

    :param plan: the run's plan, to say where the report is. :param verdict: what `judge` returned.
    """

    template_fields: Collection[str] = ("subject", "body", "plan", "verdict")

    def __init__(self, *, plan: Any, verdict: Any, **kwargs: Any) -> None:
        super().__init__(subject="Promote the candidate of {{ dag_run.run_id }}?", options=[APPROVE, REJECT], defaults=REJECT,
                         **kwargs)
        self.plan, self.verdict = plan, verdict

    def execute(self, context: Context) -> Any:
        """Ask, if somebody wants to be asked."""
        if self.verdict["decision"] != "PROMOTE":
            return {"approved": False, "by": "the gate"}
        if not context["params"]["approval"]:
            return {"approved": True, "by": "the gate, approval is off"}
        hours = float(context["params"]["approval_hours"])
        self.response_timeout = timedelta(hours=hours)
        self.body = _question(RunPlan.model_validate(self.plan), self.verdict, hours)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Take the answer: a person's, or the default when the time was over."""
        answer = super().execute_complete(context, event)
        user = answer["responded_by_user"]
        if not user:
            return {"approved": False, "by": f"nobody answered within {context['params']['approval_hours']:.3g} hours"}
        return {"approved": APPROVE in answer["chosen_options"], "by": user.get("name") or user.get("id") or "unknown"}


def _question(plan: RunPlan, verdict: dict[str, Any], hours: float) -> str:
    """What the person reads, as Markdown: what was found, where the whole report is, what silence means."""
    report = Artifact.model_validate(verdict["report"])
    page = report.key.removesuffix(".json") + ".html"
    return (f"{verdict.get('summary') or verdict['reason']}\n\n[Report]({report_link(plan, page)}) "
            f"(`s3://{plan.bucket}/{page}`)\n\nNo answer within {hours:.3g} hours means no: the champion stays.")
