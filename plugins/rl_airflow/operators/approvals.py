"""Ask a person before a promotion, when the experiment or the form wants that."""

from collections.abc import Collection
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context

APPROVE, REJECT = "Approve", "Reject"


class AskBeforePromotingOperator(HITLOperator):
    """Wait for a person to approve the promotion; does not ask when nobody wants to be asked, or nothing is promoted.

    The answer is given in the UI (Required Actions) or over REST. An answer that is missing is no approval, so a task
    that was marked as successful by hand promotes nothing. A retry asks again; a clear withdraws the answer.

    :param verdict: what `judge` returned.
    """

    template_fields: Collection[str] = ("subject", "body", "verdict")

    def __init__(self, *, verdict: Any, **kwargs: Any) -> None:
        super().__init__(subject="Promote the candidate of {{ dag_run.run_id }}?", options=[APPROVE, REJECT],
                         body="{{ ti.xcom_pull(task_ids='judge')['reason'] }}", **kwargs)
        self.verdict = verdict

    def execute(self, context: Context) -> Any:
        """Ask, if somebody wants to be asked."""
        if self.verdict["decision"] != "PROMOTE":
            return {"approved": False, "by": "the gate"}
        if not context["params"]["approval"]:
            return {"approved": True, "by": "the gate, approval is off"}
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Take the answer."""
        answer = super().execute_complete(context, event)
        user = answer["responded_by_user"] or {}
        return {"approved": APPROVE in answer["chosen_options"], "by": user.get("name") or user.get("id") or "unknown"}
