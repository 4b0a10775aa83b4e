"""The operators that use the evaluator: check an environment, and select the candidate.

:mod:`.judge_operator` judges the candidate. All of them wait in the same way: request the missing
episodes, look, and defer until they exist. So after a retry, a clear or a lost event, only the
missing episodes are evaluated again.
"""

import asyncio
import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from rl_airflow.errors import (
    EvaluationFailedError,
    OtherVersionError,
    PolicyNotEvaluatedError,
    first_line,
)
from rl_airflow.evaluation.evaluator import (
    EvaluationFiles,
    Evaluator,
    Gap,
    Job,
    Scene,
    plan_shard_episodes,
    scene_of,
)
from rl_airflow.evaluation.trigger import LambdaEvaluationTrigger
from rl_airflow.run.evaluation_money import EvaluationMoney, longest_episode_s
from rl_airflow.run.run_operator import RunOperator
from rl_airflow.run.run_resources import RunPlan
from rl_airflow.run.trial_ends import ends_of_trials
from rl_lifecycle.errors import BudgetExceededError, InvalidExperimentError, InvalidRecordError
from rl_lifecycle.evaluation.policies import PolicyRecord, SpaceForm
from rl_lifecycle.evaluation.requests import EnvironmentReport, Shard
from rl_lifecycle.evaluation.selection import select, selection_name
from rl_lifecycle.evaluation.trainable_spaces import check_spaces
from rl_lifecycle.experiment.hyperparameters import check_segment
from rl_lifecycle.experiment.settings.hyperparameter_checks import read_hyperparameters
from rl_lifecycle.experiment.spec import Artifact, Spec
from rl_lifecycle.experiment.wrappers import check_wrappers, wrappers_of
from rl_lifecycle.records.record import Record, sha256_hex
from rl_lifecycle.storage.layout import policy_prefix
from rl_lifecycle.storage.object_store import ObjectStore, get
from rl_lifecycle.trials.states import TrialState

log = logging.getLogger(__name__)

#: The worker waits this long before it defers, because a small evaluation ends in this time.
LOOK_HERE_S, LOOK_EVERY_S = 6.0, 0.4
#: After this time without a new shard, one missing shard is requested synchronously, to get its
#: error, seconds.
QUIET_S = 120.0
#: A new policy in the bucket starts its own selection. Episodes missing after this are requested.
ARRIVAL_GRACE_S = 10.0
#: Gymnasium colours its warnings for terminals.
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Candidate(Record):
    """The policy that `select` chose."""

    trial: str
    step: int
    digest: str
    policy: Artifact
    record: Artifact
    mean_return: float
    ranking: tuple[str, ...] = ()
    trials: tuple[str, ...] | None = None
    not_evaluated: tuple[str, ...] = ()


class LambdaRunOperator(RunOperator):
    """The base of the operators that evaluate policies of a run.

    :param environment: the report of `check_environment`. Its speed counts until episodes were
        played.
    :param deferrable: True waits in the triggerer. False waits in the worker and holds a slot.
    """

    template_fields: Sequence[str] = ("plan", "environment")

    def __init__(self, *, environment: Any = None, deferrable: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.environment, self.deferrable = environment, deferrable
        self._known_money: EvaluationMoney | None = None

    def _evaluator(self, plan: RunPlan) -> Evaluator:
        client = plan.session(None, self.aws_conn_id).client("lambda")
        money = self._money(plan)
        return (
            Evaluator(client, plan.evaluator, money.count_call)
            if money is not None
            else Evaluator(client, plan.evaluator)
        )

    def _money(self, plan: RunPlan) -> EvaluationMoney | None:
        """The money of the run; None for an evaluation that belongs to no run."""
        if self._known_money is None:
            self._known_money = EvaluationMoney.of_run(plan, plan.session("launcher"))
        return self._known_money

    def _environment(self) -> EnvironmentReport | None:
        return EnvironmentReport.model_validate(self.environment) if self.environment else None

    def _store(self, plan: RunPlan) -> ObjectStore:
        return plan.store(plan.session(None, self.aws_conn_id))

    def _shard_episodes(self, measured: Iterable[Shard]) -> int:
        """Return the size of shards, from the duration of earlier episodes.

        A later call may have more data, and then splits the remaining episodes differently.
        """
        return plan_shard_episodes(measured, self._environment())

    def _gather(
        self,
        plan: RunPlan,
        scene: Scene,
        jobs: Sequence[Job],
        event: dict[str, Any] | None,
        *,
        token: Any = None,
        arriving: bool = False,
    ) -> EvaluationFiles:
        """Return when all episodes of the jobs exist. Until then request, look, and defer.

        :param event: the trigger's event; None when the task begins.
        :param token: returned with the event, so that the task can continue at the same look.
        :param arriving: whether the episodes are being evaluated already. Then wait a little before
            the request.
        """
        files, evaluator = EvaluationFiles(self._store(plan), scene), self._evaluator(plan)
        money = self._money(plan)
        asked = {Gap(*gap) for gap in (event or {}).get("asked", [])}
        if arriving and event is None:
            asked = set(files.find_gaps(jobs))
            self._look(files, jobs, asked, ARRIVAL_GRACE_S)
            asked = set()
        by_name = {job.name: job for job in jobs}
        while (missing := files.find_missing(jobs, asked)).gaps:
            if (event or {}).get("quiet"):
                if money is not None:
                    lost = [gap.n_episodes for gap in missing.in_flight]
                    money.count_lost(lost, longest_episode_s(self._environment()))
                self._probe(evaluator, scene, by_name[missing.gaps[0].name], missing.gaps[0])
                event, asked = None, set()
                continue
            if money is not None and missing.unasked:
                self._reserve(money, {*missing.in_flight, *missing.unasked})
            for gap in missing.unasked:
                evaluator.start(scene, by_name[gap.name], gap)
            asked = {*missing.in_flight, *missing.unasked}
            if not self._look(files, jobs, asked, LOOK_HERE_S):
                event = self._wait(plan, scene, jobs, asked, token)
                asked = {Gap(*gap) for gap in event["asked"]}
        return files

    def _reserve(self, money: EvaluationMoney, gaps: set[Gap]) -> None:
        """Reserve the money for requested episodes.

        :raises AirflowFailException: if the run's budget does not cover them.
        """
        try:
            money.reserve((gap.n_episodes for gap in gaps), longest_episode_s(self._environment()))
        except BudgetExceededError as error:
            raise AirflowFailException(str(error)) from None

    def _look(
        self, files: EvaluationFiles, jobs: Sequence[Job], asked: set[Gap], seconds: float
    ) -> bool:
        """Look for some seconds.

        :return: True if no episode is missing, or if a new gap opened.
        """
        until = time.monotonic() + seconds
        while True:
            missing = files.find_missing(jobs, asked)
            if missing.unasked or not missing.gaps:
                return True
            if time.monotonic() > until:
                return False
            time.sleep(LOOK_EVERY_S)

    def _probe(self, evaluator: Evaluator, scene: Scene, job: Job, gap: Gap) -> None:
        log.warning(
            "%s: no news for %.0f s; asking for episode %d and waiting",
            job.name,
            QUIET_S,
            gap.offset,
        )
        try:
            evaluator.evaluate(scene, job, gap)
        except OtherVersionError:
            raise
        except EvaluationFailedError as error:
            raise PolicyNotEvaluatedError(job.name, error) from None

    def _wait(
        self, plan: RunPlan, scene: Scene, jobs: Sequence[Job], asked: set[Gap], token: Any
    ) -> dict[str, Any]:
        trigger = LambdaEvaluationTrigger(
            plan=plan.to_xcom(),
            scene=scene.model_dump(mode="json"),
            jobs=[job.model_dump(mode="json") for job in jobs],
            asked=[list(gap) for gap in sorted(asked)],
            quiet_s=QUIET_S,
            token=token,
            aws_conn_id=self.aws_conn_id,
        )
        if self.deferrable:
            self.defer(trigger=trigger, method_name="execute_complete")

        async def first() -> Any:
            return await anext(trigger.run())

        payload: dict[str, Any] = asyncio.run(first()).payload
        return payload


class LambdaCheckEnvironmentOperator(LambdaRunOperator):
    """Check that the run's environment can be made, reset and stepped, also in each gate scenario.

    Refuses impossible wrappers and segments that are too short. A retry or a clear checks again.
    The task writes no files.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Check. :return: the evaluator's report on the environment."""
        del context
        plan = self._plan()
        spec = plan.get_spec(self._store(plan))
        try:
            check_wrappers(spec.experiment, spec.hyperparameters)
        except InvalidExperimentError as error:
            raise AirflowFailException(str(error)) from None
        report = self._evaluator(plan).check_environment(scene_of(spec), spec=spec)
        if report.problem:
            raise AirflowFailException(
                f"experiments/{plan.experiment}.yaml: env_id: {report.problem}"
            )
        try:
            _check_spaces(spec, report)
        except InvalidExperimentError as error:
            raise AirflowFailException(str(error)) from None
        self._check_scenarios(plan, spec, report)
        try:
            check_segment(
                spec.experiment,
                spec.segment_timesteps,
                spec.hyperparameters,
                report.max_episode_steps,
            )
        except InvalidExperimentError as error:
            raise AirflowFailException(str(error)) from None
        for warning in report.warnings:
            log.warning("%s: %s", spec.experiment.env_id, COLOURS.sub("", warning))
        log.info(
            "%s: %s → %s, at most %s steps an episode",
            spec.experiment.env_id,
            _describe(report.observation_space),
            _describe(report.action_space),
            report.max_episode_steps,
        )
        return report.model_dump(mode="json")

    def _check_scenarios(self, plan: RunPlan, spec: Spec, base: EnvironmentReport) -> None:
        """Check the scenarios of the gate before the training costs money.

        :raises AirflowFailException: naming the scenario.
        """
        for name, scenario in spec.experiment.evaluation.scenarios.items():
            report = self._evaluator(plan).check_environment(scene_of(spec), scenario, spec)
            problem = report.problem
            if not problem and (report.observation_space, report.action_space) != (
                base.observation_space,
                base.action_space,
            ):
                problem = (
                    "has other spaces than the experiment's own environment, so no policy "
                    "could play both"
                )
            if problem:
                raise AirflowFailException(
                    f"experiments/{plan.experiment}.yaml: evaluation.scenarios.{name}: {problem}"
                )


def _check_spaces(spec: Spec, report: EnvironmentReport) -> None:
    """Refuse spaces that the trainer would refuse, before a machine is rented.

    :raises InvalidExperimentError: naming the key and the space.
    """
    experiment, source = spec.experiment, f"experiments/{spec.experiment.name}.yaml"
    check_spaces(
        experiment.algo,
        read_hyperparameters(experiment.algo, spec.hyperparameters, source),
        experiment.env_id,
        SpaceForm.from_value(report.observation_space, "check_environment"),
        SpaceForm.from_value(report.action_space, "check_environment"),
        source,
    )


class LambdaSelectCandidateOperator(LambdaRunOperator):
    """Select the run's candidate on the selection seeds, from all policies of finished trials.

    Policies are evaluated as soon as they are in the bucket. This task requests the missing
    episodes. A retry or a clear selects the same policy again.

    :param awaited_task_id: the mapped task whose XComs say how the trials ended.
    """

    def __init__(self, *, awaited_task_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.awaited_task_id = awaited_task_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Choose. :return: the candidate as JSON."""
        return self._choose(context, None)

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Continue after the trigger has fired."""
        return self._choose(context, event or {})

    def _choose(self, context: Context, event: dict[str, Any] | None) -> dict[str, Any]:
        # Airflow also starts this task when no trial was trained, because a person may have marked
        # a trial as skipped.
        ends = ends_of_trials(context, self.awaited_task_id) if self.plan else []
        finished = [end.trial for end in ends if end.state is TrialState.FINISHED]
        if not finished:
            raise AirflowFailException(
                "no trial finished its training, so there is no candidate; see the tasks await"
            )
        plan = self._plan()
        store = self._store(plan)
        spec = plan.get_spec(store)
        records, unusable = self._usable(store, spec, finished)
        jobs = {
            place: Job(
                name=selection_name(*place),
                policy=record.policy,
                first_seed=spec.selection_first_seed,
                n_episodes=spec.experiment.evaluation.selection_episodes,
            )
            for place, (_, record) in records.items()
        }
        files, lost = self._gather_some(plan, spec, jobs, event)
        best, ranking = select(
            {place: files.get_merged(job) for place, job in jobs.items() if job.name not in lost},
            spec.experiment.evaluation,
        )
        told = tuple(
            f"{one.trial} at step {one.step:,}: {one.mean_return:.2f}, {one.crash_rate:.0%} crashes"
            for one in ranking
        )
        log.info("candidate, best first:\n  %s", "\n  ".join(told))
        key, record = records[best.trial, best.step]
        return Candidate(
            trial=best.trial,
            step=best.step,
            digest=record.digest,
            policy=record.policy,
            # The stored bytes: a trainer of another release may have written other keys.
            record=Artifact(key=key, sha256=sha256_hex(get(store, key).data)),
            mean_return=best.mean_return,
            ranking=told,
            trials=tuple(finished),
            not_evaluated=(*unusable, *lost.values()),
        ).model_dump(mode="json")

    def _usable(
        self, store: ObjectStore, spec: Spec, finished: Sequence[str]
    ) -> tuple[dict[tuple[str, int], tuple[str, PolicyRecord]], list[str]]:
        """List the policies of finished trials. A trial with a wrong policy loses all of its own.

        :return: (trial, step) → key and record, and the reason for each trial without policies.
        :raises AirflowFailException: if no trial has a usable policy.
        """
        usable: dict[tuple[str, int], tuple[str, PolicyRecord]] = {}
        unusable: list[str] = []
        expected = wrappers_of(spec.hyperparameters)
        for trial in finished:
            try:
                policies = list_policies(store, spec, trial)
            except InvalidRecordError as error:
                unusable.append(f"{trial}: {first_line(error)}")
                continue
            strange = [key for key, record in policies if record.metadata.wrappers != expected]
            if strange:
                unusable.append(
                    f"{trial}: {strange[0]} names other wrappers than the experiment's "
                    "env_wrapper, so it was not trained as the frozen spec says: do not use this "
                    "trial's policies; find out what its trainer ran"
                )
                continue
            usable |= {(one.trial, one.step): (key, one) for key, one in policies}
        if unusable and not usable:
            raise AirflowFailException("; ".join(unusable))
        return usable, unusable

    def _gather_some(
        self,
        plan: RunPlan,
        spec: Spec,
        jobs: Mapping[tuple[str, int], Job],
        event: dict[str, Any] | None,
    ) -> tuple[EvaluationFiles, dict[str, str]]:
        """Evaluate all policies that can be evaluated. One that cannot costs only itself.

        :return: the shards, and for each policy without them its evaluation's name and the reason.
        :raises EvaluationFailedError: if no policy can be evaluated.
        """
        store = self._store(plan)
        places = {job.name: place for place, job in jobs.items()}
        lost: dict[str, str] = dict((event or {}).get("token") or {})
        while True:
            left = [job for job in jobs.values() if job.name not in lost]
            try:
                files = self._gather(
                    plan,
                    scene_of(spec),
                    self._sized(store, spec, left),
                    event,
                    token=lost or None,
                    arriving=not lost,
                )
            except PolicyNotEvaluatedError as error:
                if len(left) == 1:
                    raise
                trial, step = places[error.name]
                lost[error.name] = f"{trial} at step {step:,}: {error.problem}"
                log.warning("%s; the others are selected from", lost[error.name])
                event = None
            else:
                return files, lost

    def _sized(self, store: ObjectStore, spec: Spec, jobs: Sequence[Job]) -> list[Job]:
        """Set each policy's shard size by its own episodes, else by the run's slowest policy."""
        files = EvaluationFiles(store, scene_of(spec))
        there = {job.name: files.read(job) for job in jobs}
        everywhere = [shard for shards in there.values() for shard in shards]
        return [
            job.in_shards_of(self._shard_episodes(there[job.name] or everywhere)) for job in jobs
        ]


def _describe(space: Mapping[str, Any]) -> str:
    """Describe a space in a few words, such as `Box [4]` or `Discrete 2`."""
    size = space.get("n") or list(space.get("shape") or ()) or ", ".join(space.get("spaces") or ())
    return f"{space.get('kind', '?')} {size}".strip()


def list_policies(store: ObjectStore, spec: Spec, trial: str) -> list[tuple[str, PolicyRecord]]:
    """List all complete policies of a trial, with their records' keys."""
    found = []
    for item in store.list(policy_prefix(spec.trial_id(trial))):
        if item.key.endswith(".json"):
            found.append(
                (
                    item.key,
                    PolicyRecord.from_json(get(store, item.key).data, f"{store.uri}/{item.key}"),
                )
            )
    return found
