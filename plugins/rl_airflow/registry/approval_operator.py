"""The operator that asks a person before a promotion, if the experiment or the form requires it."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Context

from rl_airflow.evaluation.selection_operator import Candidate
from rl_airflow.infrastructure.xcom_fields import XComField, value_of
from rl_airflow.run.ledger_files import LedgerFile
from rl_airflow.run.links import report_link
from rl_airflow.run.run_resources import RunPlan
from rl_lifecycle.experiment.experiment import Experiment
from rl_lifecycle.experiment.spec import Artifact, Spec
from rl_lifecycle.machines.ledger import Ledger
from rl_lifecycle.storage.layout import page_of_report

APPROVE, REJECT = "Approve", "Reject"


class AskBeforePromotingOperator(HITLOperator):
    """Wait for a person to approve the promotion.

    It does not ask if approval is off, or if the gate did not say PROMOTE.

    The run's spec decides whether to ask and for how long. A person answers in the UI (Required
    Actions) or over REST. Without an answer there is no approval, so a task that was marked as
    successful by hand promotes nothing. A retry asks again; a clear deletes the answer.

    :param plan: the run's plan, for the link to the report.
    :param candidate: the result of `select`. A template adds no edge between tasks.
    :param verdict: the result of `judge`.
    """

    template_fields: Collection[str] = ("subject", "body", "plan", "candidate", "verdict")
    plan, candidate, verdict = XComField(), XComField(), XComField()

    def __init__(self, *, plan: Any, candidate: Any, verdict: Any, **kwargs: Any) -> None:
        super().__init__(
            subject="Promote the candidate of {{ dag_run.run_id }}?",
            options=[APPROVE, REJECT],
            defaults=REJECT,
            **kwargs,
        )
        self.plan, self.candidate, self.verdict = plan, candidate, verdict

    def execute(self, context: Context) -> Any:
        """Ask if the experiment requires an approval."""
        if self.verdict["decision"] != "PROMOTE":
            return {"approved": False, "by": "the gate"}
        plan = RunPlan.from_value(value_of(self.plan), "the run's plan")
        store = plan.store(plan.session(None))
        spec = plan.get_spec(store)
        if not spec.experiment.approval:
            return {"approved": True, "by": "the gate, approval is off"}
        candidate = Candidate.from_value(value_of(self.candidate), "the candidate")
        self.response_timeout = timedelta(hours=spec.experiment.approval_hours)
        origin = context["params"].get("origin") or ""
        self.body = "\n\n".join(
            (
                _facts(spec, None if origin else candidate, LedgerFile(store, spec).read()),
                *_origin(origin),
                _verdict(plan, spec, self.verdict),
                f"No answer within {spec.experiment.approval_hours:.3g} hours means no: the "
                "champion stays.",
            )
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


def _facts(spec: Spec, candidate: Candidate | None, ledger: Ledger) -> str:
    """Say in Markdown what would go into service, what it would replace, and what it has cost.

    :param candidate: None: an imported policy, which no trial of the run trained.
    """
    trained = "an imported policy"
    if candidate is not None:
        trained = (
            f"trial `{candidate.trial}` at step {candidate.step:,} of "
            f"{spec.experiment.total_timesteps:,}, chosen from {len(spec.trials)} "
            f"trial{'s' * (len(spec.trials) != 1)}"
        )
    before = "no champion yet: it would be the first"
    if spec.champion is not None:
        before = f"version {spec.champion.version}"
    return "\n".join(
        (
            f"- **Candidate**: {trained}",
            f"- **Champion of {spec.experiment.name}**: {before}",
            f"- **Cost so far**: {ledger.spent_usd:.4f} USD of {ledger.budget_usd:g} USD allowed",
        )
    )


def _origin(origin: str) -> tuple[str, ...]:
    """Quote the importer's text about an imported policy, so that it does not look like ours."""
    if not origin:
        return ()
    quoted = "\n".join(f"> {line}" for line in origin.splitlines())
    return ("This policy was imported. The person who triggered the import wrote:", quoted)


def _verdict(plan: RunPlan, spec: Spec, verdict: dict[str, Any]) -> str:
    """Write the verdict and the place of the report as a list in Markdown."""
    page = page_of_report(Artifact.model_validate(verdict["report"]).key)
    found = (verdict.get("summary") or verdict["reason"]).splitlines()
    report = f"[Report]({report_link(spec)}) (`s3://{plan.bucket}/{page}`)"
    return "\n".join(f"- {line}" for line in (*found, report))
