"""Ask a person before a promotion, when the experiment or the form wants that."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context

from rl_airflow.run.links import report_link
from rl_airflow.run.run_plan import RunPlan
from rl_lifecycle.experiment.experiment import Experiment
from rl_lifecycle.experiment.spec import Artifact
from rl_lifecycle.storage.layout import page_of_report

APPROVE, REJECT = "Approve", "Reject"


class AskBeforePromotingOperator(HITLOperator):
    """Wait for a person to approve the promotion; does not ask when nobody wants to be asked, or
    nothing is promoted.

    Whether to ask, and for how long, is what the run's spec froze. The answer is given in the UI
    (Required Actions) or over REST; no answer is a no. An answer that is missing is no approval, so
    a task that was marked as successful by hand promotes nothing. A retry asks again; a clear
    withdraws the answer.

    :param plan: the run's plan, to say where the report is. :param verdict: what `judge` returned.
    """

    template_fields: Collection[str] = ("subject", "body", "plan", "verdict")

    def __init__(self, *, plan: Any, verdict: Any, **kwargs: Any) -> None:
        super().__init__(
            subject="Promote the candidate of {{ dag_run.run_id }}?",
            options=[APPROVE, REJECT],
            defaults=REJECT,
            **kwargs,
        )
        self.plan, self.verdict = plan, verdict

    def execute(self, context: Context) -> Any:
        """Ask, if somebody wants to be asked."""
        if self.verdict["decision"] != "PROMOTE":
            return {"approved": False, "by": "the gate"}
        experiment = self._experiment()
        if not experiment.approval:
            return {"approved": True, "by": "the gate, approval is off"}
        self.response_timeout = timedelta(hours=experiment.approval_hours)
        self.body = _question(
            RunPlan.from_value(self.plan, "the run's plan"),
            self.verdict,
            experiment.approval_hours,
            context["params"].get("origin") or "",
        )
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Take the answer: a person's, or the default when the time was over."""
        answer = super().execute_complete(context, event)
        user = answer["responded_by_user"]
        if not user:
            return {
                "approved": False,
                "by": f"nobody answered within {self._experiment().approval_hours:.3g} hours",
            }
        name = name_of(user)
        return {"approved": APPROVE in answer["chosen_options"], "by": name, "person": name}

    def _experiment(self) -> Experiment:
        plan = RunPlan.from_value(self.plan, "the run's plan")
        return plan.get_spec(plan.store(plan.session(None))).experiment


def name_of(user: dict[str, Any]) -> str:
    """What to call a person who answered."""
    return str(user.get("name") or user.get("id") or "unknown")


def _question(plan: RunPlan, verdict: dict[str, Any], hours: float, origin: str) -> str:
    """What the person reads, as Markdown: what was found, where the whole report is, what silence
    means.

    :param origin: of an imported policy, in the importer's words, which are quoted so that they
        cannot pass for ours.
    """
    report = Artifact.model_validate(verdict["report"])
    page = page_of_report(report.key)
    quoted = "\n".join(f"> {line}" for line in origin.splitlines())
    imported = (
        f"Brought in from elsewhere. Whoever triggered it says of it:\n\n{quoted}\n\n"
        if origin
        else ""
    )
    return (
        f"{imported}{verdict.get('summary') or verdict['reason']}\n\n[Report]({report_link(plan, page)}) "
        f"(`s3://{plan.bucket}/{page}`)\n\nNo answer within {hours:.3g} hours means no: the "
        "champion stays."
    )
