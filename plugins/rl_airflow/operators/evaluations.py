"""The operators that ask the evaluator: check an environment, choose the candidate, judge it, evaluate a policy.

They share one way of waiting: ask for what is missing, look, and defer until it is there. So a retry, a clear, or a
lost event costs at most the episodes that were not written yet.
"""

import asyncio
import logging
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from rl_airflow.errors import EvaluationFailedError
from rl_airflow.evaluations import EvaluationFiles, Evaluator, Gap, Job, Scene, plan_shard_episodes, scene_of
from rl_airflow.links import JUDGE_LINKS, report_link
from rl_airflow.operators.trials import RunOperator
from rl_airflow.run_notes import write_note
from rl_airflow.run_plan import RunPlan
from rl_airflow.trial_reports import TrialEnd
from rl_airflow.triggers.evaluations import LambdaEvaluationTrigger
from rl_lifecycle.errors import InvalidExperimentError
from rl_lifecycle.evaluations import DecideRequest, RenderReportRequest, scenario_evaluation
from rl_lifecycle.experiments import Scenario
from rl_lifecycle.gates import Decision, Verdict, decide_unchanged, gate_of
from rl_lifecycle.hyperparameters import check_segment, check_wrappers
from rl_lifecycle.layout import policy_prefix
from rl_lifecycle.policies import PolicyRecord
from rl_lifecycle.records import Record, sha256_hex
from rl_lifecycle.reports import Report, summarise_report
from rl_lifecycle.selection import select, selection_name
from rl_lifecycle.specs import Artifact, Champion, Spec
from rl_lifecycle.states import TrialState
from rl_lifecycle.stores import ObjectStore, get

log = logging.getLogger(__name__)

#: The evaluation of the champion that the run froze.
CHAMPION = "gate-champion"
#: The worker looks for so long itself before it defers: a small evaluation is done by then.
LOOK_HERE_S, LOOK_EVERY_S = 6.0, 0.4
#: Without a new shard for so long, one missing shard is asked for synchronously, to hear what is wrong with it.
QUIET_S = 120.0
#: A policy's arrival starts its selection by itself; only what is missing after this is asked for.
ARRIVAL_GRACE_S = 10.0
#: How many of the candidate's worst episodes a report shows.
FILMS = 3
#: Gymnasium colours its warnings for terminals.
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Candidate(Record):
    """What `select` chose."""

    trial: str
    step: int
    digest: str
    policy: Artifact
    record: Artifact
    mean_return: float
    ranking: tuple[str, ...] = ()


class LambdaRunOperator(RunOperator):
    """What the operators share that evaluate policies of a run.

    :param deferrable: wait in the triggerer; False: wait in the worker, which holds a slot.
    """

    def __init__(self, *, deferrable: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.deferrable = deferrable

    def _evaluator(self, plan: RunPlan) -> Evaluator:
        return Evaluator(plan.session(None, self.aws_conn_id).client("lambda"), plan.evaluator)

    def _store(self, plan: RunPlan) -> ObjectStore:
        return plan.store(plan.session(None, self.aws_conn_id))

    def _gather(self, plan: RunPlan, scene: Scene, jobs: Sequence[Job], event: dict[str, Any] | None, *,
                token: Any = None, arriving: bool = False) -> EvaluationFiles:
        """Return when all episodes of the jobs are there; until then ask, look, and defer.

        :param event: what the trigger brought back; None when the task begins.
        :param token: handed to the event, so that the task knows where it was. :param arriving: the episodes are being
            evaluated already, so wait a little before asking.
        """
        files, evaluator = EvaluationFiles(self._store(plan), scene), self._evaluator(plan)
        asked = {Gap(*gap) for gap in (event or {}).get("asked", [])}
        if arriving and event is None:
            asked = set(files.find_gaps(jobs))
            self._look(files, jobs, asked, ARRIVAL_GRACE_S)
            asked = set()
        while gaps := files.find_gaps(jobs):
            by_name = {job.name: job for job in jobs}
            if (event or {}).get("quiet"):
                self._probe(evaluator, scene, by_name[gaps[0].name], gaps[0])
                event, asked = None, set()
                continue
            for gap in gaps:
                if gap not in asked:
                    evaluator.start(scene, by_name[gap.name], gap)
                    asked.add(gap)
            if not self._look(files, jobs, asked, LOOK_HERE_S):
                event = self._wait(plan, scene, jobs, asked, token)
                asked = {Gap(*gap) for gap in event["asked"]}
        return files

    def _look(self, files: EvaluationFiles, jobs: Sequence[Job], asked: set[Gap], seconds: float) -> bool:
        """Look for a while. :return: whether there is something to do: nothing is missing, or a new gap opened."""
        until = time.monotonic() + seconds
        while True:
            gaps = set(files.find_gaps(jobs))
            if not gaps or gaps - asked:
                return True
            if time.monotonic() > until:
                return False
            time.sleep(LOOK_EVERY_S)

    def _probe(self, evaluator: Evaluator, scene: Scene, job: Job, gap: Gap) -> None:
        log.warning("%s: no news for %.0f s; asking for episode %d and waiting", job.name, QUIET_S, gap.offset)
        evaluator.evaluate(scene, job, gap)

    def _wait(self, plan: RunPlan, scene: Scene, jobs: Sequence[Job], asked: set[Gap], token: Any) -> dict[str, Any]:
        trigger = LambdaEvaluationTrigger(
            plan=plan.to_xcom(), scene=scene.model_dump(mode="json"), jobs=[job.model_dump(mode="json") for job in jobs],
            asked=[list(gap) for gap in sorted(asked)], quiet_s=QUIET_S, token=token, aws_conn_id=self.aws_conn_id)
        if self.deferrable:
            self.defer(trigger=trigger, method_name="execute_complete")

        async def first() -> Any:
            return await anext(trigger.run())

        payload: dict[str, Any] = asyncio.run(first()).payload
        return payload


class LambdaCheckEnvironmentOperator(LambdaRunOperator):
    """Ask the evaluator whether the run's environment can be made, reset and stepped, and refuse segments too short.

    A retry or a clear asks again; nothing is written.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Check. :return: the evaluator's report on the environment."""
        del context
        plan = self._plan()
        spec = plan.get_spec(self._store(plan))
        report = self._evaluator(plan).check_environment(scene_of(spec))
        if report.problem:
            raise AirflowFailException(f"experiments/{plan.experiment}.yaml: env_id: {report.problem}")
        try:
            check_wrappers(spec.experiment, spec.hyperparameters)
            check_segment(spec.experiment, spec.segment_timesteps, spec.hyperparameters, report.max_episode_steps)
        except InvalidExperimentError as error:
            raise AirflowFailException(str(error)) from None
        for warning in report.warnings:
            log.warning("%s: %s", spec.experiment.env_id, COLOURS.sub("", warning))
        log.info("%s: %s → %s, at most %s steps an episode", spec.experiment.env_id, _describe(report.observation_space),
                 _describe(report.action_space), report.max_episode_steps)
        return report.model_dump(mode="json")


class LambdaSelectCandidateOperator(LambdaRunOperator):
    """Choose the run's candidate on the selection seeds, among all policies of the trials that finished.

    Policies were evaluated when they arrived; what is missing is asked for. A retry or a clear chooses the same again.

    :param awaited_task_id: the mapped task whose XComs say how the trials ended.
    """

    template_fields: Sequence[str] = ("plan",)

    def __init__(self, *, awaited_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.awaited_task_id = awaited_task_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Choose. :return: the candidate as JSON."""
        return self._choose(context, None)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Come back from the triggerer."""
        return self._choose(context, event or {})

    def _choose(self, context: Context, event: dict[str, Any] | None) -> dict[str, Any]:
        plan = self._plan()
        store = self._store(plan)
        spec = plan.get_spec(store)
        finished = [end.trial for end in ends_of_trials(context, self.awaited_task_id) if end.state is TrialState.FINISHED]
        if not finished:
            raise AirflowFailException("no trial finished its training, so there is no candidate; see the tasks await")
        records = {(record.trial, record.step): (key, record) for trial in finished
                   for key, record in list_policies(store, spec, trial)}
        jobs = {place: Job(name=selection_name(*place), policy=record.policy, first_seed=spec.selection_first_seed,
                           n_episodes=spec.experiment.evaluation.selection_episodes)
                for place, (_, record) in records.items()}
        files = self._gather(plan, scene_of(spec), list(jobs.values()), event, arriving=True)
        best, ranking = select({place: files.get_merged(job) for place, job in jobs.items()}, spec.experiment.evaluation)
        told = tuple(f"{one.trial} at step {one.step:,}: {one.mean_return:.2f}, {one.crash_rate:.0%} crashes" for one in ranking)
        log.info("candidate, best first:\n  %s", "\n  ".join(told))
        key, record = records[best.trial, best.step]
        return Candidate(trial=best.trial, step=best.step, digest=record.digest, policy=record.policy,
                         record=Artifact(key=key, sha256=sha256_hex(record.to_json())), mean_return=best.mean_return,
                         ranking=told).model_dump(mode="json")


class LambdaJudgeCandidateOperator(LambdaRunOperator):
    """Judge the candidate against the champion on fresh seeds, look by look, and stop as soon as the rule allows.

    Both are evaluated on the run's environment and the same seeds. A first champion is judged by the absolute bar; equal
    digests are UNCHANGED without an episode. A retry or a clear finds the shards, and a decision that was written stands.

    :param candidate: what `select` returned.
    """

    template_fields: Sequence[str] = ("plan", "candidate")
    operator_extra_links = JUDGE_LINKS

    def __init__(self, *, candidate: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.candidate = candidate

    def execute(self, context: Context) -> dict[str, Any]:
        """Judge. :return: the verdict as JSON, with `report` (key and digest) and `summary` unless it is UNCHANGED."""
        return self._noted(context, self._judge(None))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Come back from the triggerer to the look that was waited for."""
        return self._noted(context, self._judge(event or {}))

    @staticmethod
    def _noted(context: Context, told: dict[str, Any]) -> dict[str, Any]:
        """Put the verdict onto the run as its note, for the list of runs."""
        write_note(context, told.get("summary") or f"{told['decision']}: {told['reason']}")
        return told

    def _judge(self, event: dict[str, Any] | None) -> dict[str, Any]:
        plan, candidate = self._plan(), Candidate.model_validate(self.candidate)
        spec = plan.get_spec(self._store(plan))
        champion = spec.champion
        if unchanged := decide_unchanged(candidate.digest, champion):
            return self._told(plan, unchanged, None)
        compared = champion if champion is not None and not champion.new_lineage else None
        if champion is not None and champion.new_lineage:
            log.info("a new lineage: %s", champion.new_lineage)
        look: int | None = int((event or {}).get("token") or gate_of(spec.experiment).schedule()[0][0])
        request = DecideRequest(experiment=plan.experiment, run=plan.run, candidate=candidate_evaluation(candidate.policy),
                                champion=CHAMPION if compared else None, spec=plan.spec)
        size = self._shard_episodes(plan, spec, candidate)
        while look is not None:
            jobs = [job.model_copy(update={"shard_episodes": size}) for job in jobs_of_look(spec, candidate.policy, compared, look)]
            self._gather(plan, scene_of(spec), jobs, event, token=look)
            event = None
            judged = self._evaluator(plan).decide(request)
            if judged.verdict.decision is not Decision.CONTINUE:
                self._draw(plan, request, candidate.policy)
                return self._told(plan, judged.verdict, judged.report)
            if judged.verdict.next_look is None or judged.verdict.next_look <= look:
                raise EvaluationFailedError("decision", f"the evaluator wants to go on after {look} pairs, and says not where to")
            log.info("look at %d: %s", look, judged.verdict.reason)
            look = judged.verdict.next_look
        raise EvaluationFailedError("decision", "there was no look to take")

    def _shard_episodes(self, plan: RunPlan, spec: Spec, candidate: Candidate) -> int:
        """Size the shards by how long the candidate's selection took: the same every time it is asked, as shards must be."""
        job = Job(name=selection_name(candidate.trial, candidate.step), policy=candidate.policy, first_seed=0, n_episodes=1)
        size = plan_shard_episodes(EvaluationFiles(self._store(plan), scene_of(spec)).read(job))
        log.info("shards of %d episodes", size)
        return size

    def _draw(self, plan: RunPlan, request: DecideRequest, policy: Artifact) -> None:
        """Have the page written: with films, else without. The verdict stands whatever becomes of it."""
        for films in (FILMS, 0):
            try:
                drawn = self._evaluator(plan).render_report(RenderReportRequest(
                    **request.model_dump(exclude={"action"}), policy=policy, films=films))
            except Exception as error:
                log.warning("the report's page was not written%s: %s", " with films" * bool(films), str(error).splitlines()[0])
            else:
                log.info("page of %s bytes, films: %s", f"{drawn['n_bytes']:,}", drawn["films"])
                return

    def _told(self, plan: RunPlan, verdict: Verdict, report: Artifact | None) -> dict[str, Any]:
        told = {"decision": verdict.decision.value, "reason": verdict.reason, "n_pairs": verdict.n_pairs,
                "report": report.model_dump(mode="json") if report else None}
        if report is None:
            log.info("%s: %s", verdict.decision, verdict.reason)
            return told
        page = report.key.removesuffix(".json") + ".html"
        self.links = {"S3ReportLink": report_link(plan, page)}
        summary = summarise_report(Report.from_json(get(self._store(plan), report.key, report.sha256).data, report.key))
        log.info("%s\nreport: s3://%s/%s", summary, plan.bucket, page)
        return told | {"summary": summary}


def _describe(space: Mapping[str, Any]) -> str:
    """A space in a few words, such as `Box [4]` or `Discrete 2`."""
    size = space.get("n") or list(space.get("shape") or ()) or ", ".join(space.get("spaces") or ())
    return f"{space.get('kind', '?')} {size}".strip()


def jobs_of_look(spec: Spec, candidate: Artifact, champion: Champion | None, n_pairs: int) -> list[Job]:
    """The episodes that a look needs: both policies, in the experiment's own environment and in each scenario.

    :param champion: None for a first champion, which is judged by the bar in the experiment's own environment alone.
    """
    policies = {candidate_evaluation(candidate): candidate} | ({CHAMPION: champion.policy} if champion else {})
    scenarios = spec.experiment.evaluation.scenarios if champion else {}
    return [Job(name=name, policy=policy, first_seed=spec.gate_first_seed, n_episodes=n_pairs, env_kwargs=scenario.env_kwargs,
                perturbation=scenario.perturbation)
            for evaluated, policy in policies.items()
            for name, scenario in {evaluated: Scenario(), **{scenario_evaluation(evaluated, name): scenario
                                                             for name, scenario in scenarios.items()}}.items()]


def candidate_evaluation(policy: Artifact) -> str:
    """The name of a candidate's evaluation. Another candidate of the same run, after a clear, has shards of its own."""
    return f"gate-candidate-{policy.sha256[:12]}"


def list_policies(store: ObjectStore, spec: Spec, trial: str) -> list[tuple[str, PolicyRecord]]:
    """All complete policies of a trial, with their records' keys."""
    found = []
    for item in store.list(policy_prefix(spec.trial_id(trial))):
        if item.key.endswith(".json"):
            found.append((item.key, PolicyRecord.from_json(get(store, item.key).data, f"{store.uri}/{item.key}")))
    return found


def ends_of_trials(context: Context, task_id: str) -> list[TrialEnd]:
    """How the trials ended, of those whose tasks said so."""
    from rl_airflow.operators.trials import END_KEY

    said = context["ti"].xcom_pull(task_ids=task_id, key=END_KEY)  # of one trial its end itself, of several a list
    ends = [said] if isinstance(said, dict) else said or ()
    return [TrialEnd.model_validate(end) for end in ends if end]
