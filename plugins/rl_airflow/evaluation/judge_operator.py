"""The operator that judges the candidate look by look, without playing an episode twice."""

import logging
from collections.abc import Sequence
from typing import Any

from airflow.sdk import Context

from rl_airflow.errors import EvaluationFailedError, OtherVersionError, first_line
from rl_airflow.evaluation.evaluation_files import EvaluationFiles
from rl_airflow.evaluation.evaluator import Job, scene_of
from rl_airflow.evaluation.lambda_operator import LambdaRunOperator
from rl_airflow.evaluation.selection_operator import Candidate
from rl_airflow.infrastructure.xcom_fields import XComField, value_of
from rl_airflow.run.links import JUDGE_LINKS, report_link
from rl_airflow.run.notes import keep_note
from rl_airflow.run.run_resources import RunPlan
from rl_lifecycle.evaluation.decision_reports import Report, summarise_report
from rl_lifecycle.evaluation.gate import decide_unchanged
from rl_lifecycle.evaluation.requests import DecideRequest, RenderReportRequest, scenario_evaluation
from rl_lifecycle.evaluation.selection import selection_name
from rl_lifecycle.evaluation.verdicts import Decision, Verdict, gate_of
from rl_lifecycle.experiment.evaluation_settings import Scenario
from rl_lifecycle.experiment.spec import Artifact, Champion, Spec
from rl_lifecycle.storage.layout import page_of_report
from rl_lifecycle.storage.object_store import get

log = logging.getLogger(__name__)

#: The evaluation of the champion that the run froze.
CHAMPION = "gate-champion"
#: What a person can do when the champion cannot be played.
WAY_OUT = (
    "if the champion cannot be played any more, trigger retrain_{experiment} with new_lineage: its "
    "candidate is then judged by evaluation.first_champion_above, not against the champion; or put "
    "a version that plays back into service with rollback_policy"
)
#: How many of the candidate's worst episodes a report shows.
FILMS = 3


class LambdaJudgeCandidateOperator(LambdaRunOperator):
    """Judge the candidate against the champion on fresh seeds, and stop as soon as the rule allows.

    Both play the run's environment with the same seeds. Without a champion the candidate is judged
    against the absolute bar. Equal digests give UNCHANGED without an episode. A retry or a clear
    uses the existing shards, and a written decision stays.

    :param candidate: the result of `select`.
    """

    template_fields: Sequence[str] = ("plan", "candidate", "environment")
    candidate = XComField()
    operator_extra_links = JUDGE_LINKS

    def __init__(self, *, candidate: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.candidate = candidate

    def execute(self, context: Context) -> dict[str, Any]:
        """Judge.
        :return: the verdict as JSON, with `report` (key and digest) and `summary` unless it is
            UNCHANGED.
        """
        return self._noted(context, self._judge(None))

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Continue with the same look after the trigger has fired."""
        return self._noted(context, self._judge(event or {}))

    @staticmethod
    def _noted(context: Context, told: dict[str, Any]) -> dict[str, Any]:
        """Keep the verdict as the run's note, which Airflow shows in the list of runs."""
        keep_note(context, told.get("summary") or f"{told['decision']}: {told['reason']}")
        return told

    def _judge(self, event: dict[str, Any] | None) -> dict[str, Any]:
        plan, candidate = (
            self._plan(),
            Candidate.from_value(value_of(self.candidate), "the candidate"),
        )
        spec = plan.get_spec(self._store(plan))
        champion = spec.champion
        if unchanged := decide_unchanged(candidate.digest, champion):
            return self._told(plan, spec, unchanged, None)
        compared = champion if champion is not None and not champion.new_lineage else None
        if champion is not None and champion.new_lineage:
            log.info("a new lineage begins: %s", champion.new_lineage)
        look: int | None = int(
            (event or {}).get("token") or gate_of(spec.experiment).schedule()[0][0]
        )
        request = DecideRequest(
            experiment=plan.experiment,
            run=plan.run,
            candidate=candidate_evaluation(candidate.policy),
            champion=CHAMPION if compared else None,
            spec=plan.spec,
        )
        size = self._size_of_shards(plan, spec, candidate)
        while look is not None:
            jobs = [
                job.in_shards_of(size)
                for job in jobs_of_look(spec, candidate.policy, compared, look)
            ]
            try:
                self._gather(plan, scene_of(spec), jobs, event, token=look)
            except EvaluationFailedError as error:
                return self._without_champion(plan, spec, candidate, error)
            event = None
            judged = self._evaluator(plan).decide(request)
            if judged.verdict.decision is not Decision.CONTINUE:
                self._draw(plan, request, candidate.policy)
                return self._told(plan, spec, judged.verdict, judged.report) | describe_trouble(
                    judged.verdict, candidate, spec
                )
            if judged.verdict.next_look is None or judged.verdict.next_look <= look:
                raise EvaluationFailedError(
                    "decision",
                    f"the evaluator wants to continue after {look} pairs, but names no next look",
                )
            log.info("look at %d: %s", look, judged.verdict.reason)
            look = judged.verdict.next_look
        raise EvaluationFailedError("decision", "there was no look to take")

    def _without_champion(
        self, plan: RunPlan, spec: Spec, candidate: Candidate, error: EvaluationFailedError
    ) -> dict[str, Any]:
        """End the judging if its error is that the champion can no longer be played.

        :raises EvaluationFailedError: the error itself, if it has another cause.
        """
        champion = spec.champion
        if champion is None or champion.new_lineage or isinstance(error, OtherVersionError):
            raise error
        problem = self._why_unplayable(plan, spec, champion.policy)
        if problem and self._why_unplayable(plan, spec, candidate.policy):
            raise error  # the evaluator plays no policy at all
        if not problem:
            raise error
        verdict = Verdict(
            decision=Decision.INCONCLUSIVE,
            reason=f"champion version {champion.version} can no longer be played: {problem}",
            n_pairs=0,
            alpha_spent=0.0,
            looks=(),
            broken=True,
        )
        return self._told(plan, spec, verdict, None) | describe_trouble(verdict, candidate, spec)

    def _why_unplayable(self, plan: RunPlan, spec: Spec, policy: Artifact) -> str:
        """Explain why a policy cannot be played. The text is empty if it can."""
        try:
            return self._evaluator(plan).check_policy(scene_of(spec), policy).problem
        except EvaluationFailedError as failed:
            return failed.problem

    def _size_of_shards(self, plan: RunPlan, spec: Spec, candidate: Candidate) -> int:
        """Size the shards by the time that the selection took. An import has no selection."""
        job = Job(
            name=selection_name(candidate.trial, candidate.step),
            policy=candidate.policy,
            first_seed=0,
            n_episodes=1,
        )
        size = self._shard_episodes(EvaluationFiles(self._store(plan), scene_of(spec)).read(job))
        log.info("shards of %d episodes", size)
        return size

    def _draw(self, plan: RunPlan, request: DecideRequest, policy: Artifact) -> None:
        """Request the report's page with films, or else without. The verdict never changes."""
        for films in (FILMS, 0):
            try:
                drawn = self._evaluator(plan).render_report(
                    RenderReportRequest(
                        **request.model_dump(exclude={"action"}), policy=policy, films=films
                    )
                )
            except Exception as error:  # the verdict is final, even if the page cannot be written
                log.warning(
                    "the report's page was not written%s: %s",
                    " with films" * bool(films),
                    first_line(error),
                )
            else:
                log.info("page of %s bytes, films: %s", f"{drawn['n_bytes']:,}", drawn["films"])
                return

    def _told(
        self, plan: RunPlan, spec: Spec, verdict: Verdict, report: Artifact | None
    ) -> dict[str, Any]:
        told = {
            "decision": verdict.decision.value,
            "reason": verdict.reason,
            "n_pairs": verdict.n_pairs,
            "report": report.model_dump(mode="json") if report else None,
        }
        if report is None:
            log.info("%s: %s", verdict.decision, verdict.reason)
            return told
        page = page_of_report(report.key)
        self.links = {"S3ReportLink": report_link(spec)}
        summary = summarise_report(
            Report.from_json(get(self._store(plan), report.key, report.sha256).data, report.key)
        )
        log.info("%s\nreport: s3://%s/%s", summary, plan.bucket, page)
        return told | {"summary": summary}


def describe_trouble(verdict: Verdict, candidate: Candidate, spec: Spec) -> dict[str, Any]:
    """Describe whose episodes were lost, and the way out if the champion cannot be played.

    :return: the additions to the task's result, for the report and the verdict of the run.
    """
    told: dict[str, Any] = {"candidate": candidate.digest}
    lost = [one.describe() for one in verdict.lost_episodes]
    if not verdict.broken:
        return told | ({"lost": lost} if lost else {})
    losers = {one.policy.partition(" ")[0] for one in verdict.lost_episodes if one.is_too_much}
    if losers == {"champion"} or not verdict.n_pairs:
        lost.append(WAY_OUT.format(experiment=spec.experiment.name))
    return told | {"broken": True, "lost": lost}


def jobs_of_look(
    spec: Spec, candidate: Artifact, champion: Champion | None, n_pairs: int
) -> list[Job]:
    """The episodes that a look needs: both policies, in the experiment's own environment and in
    each scenario.

    :param champion: None for a first champion. It is judged by the bar, and only in the
        experiment's own environment.
    """
    policies = {candidate_evaluation(candidate): candidate} | (
        {CHAMPION: champion.policy} if champion else {}
    )
    scenarios = spec.experiment.evaluation.scenarios if champion else {}
    return [
        Job(
            name=name,
            policy=policy,
            first_seed=spec.gate_first_seed,
            n_episodes=n_pairs,
            env_kwargs=scenario.env_kwargs,
            perturbation=scenario.perturbation,
        )
        for evaluated, policy in policies.items()
        for name, scenario in {
            evaluated: Scenario(),
            **{
                scenario_evaluation(evaluated, name): scenario
                for name, scenario in scenarios.items()
            },
        }.items()
    ]


def candidate_evaluation(policy: Artifact) -> str:
    """The name of a candidate's evaluation. After a clear, another candidate of the same run has
    its own shards.
    """
    return f"gate-candidate-{policy.sha256[:12]}"
