"""The operator that selects the candidate among the policies of a run."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from rl_airflow.errors import (
    PolicyNotEvaluatedError,
    first_line,
)
from rl_airflow.evaluation.evaluation_files import EvaluationFiles
from rl_airflow.evaluation.evaluator import Job, scene_of
from rl_airflow.evaluation.lambda_operator import LambdaRunOperator
from rl_airflow.run.run_resources import RunPlan
from rl_airflow.run.trial_ends import ends_of_trials
from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.evaluation.policies import PolicyRecord, find_misplacement
from rl_lifecycle.evaluation.requests import Shard
from rl_lifecycle.evaluation.selection import select, selection_name
from rl_lifecycle.experiment.spec import Artifact, Spec
from rl_lifecycle.experiment.wrappers import wrappers_of
from rl_lifecycle.records.record import Record, sha256_hex
from rl_lifecycle.storage.layout import policy_prefix
from rl_lifecycle.storage.object_store import ObjectStore, get
from rl_lifecycle.trials.states import TrialState

log = logging.getLogger(__name__)


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
        merged, lost = self._gather_some(plan, spec, jobs, event)
        best, ranking = select(
            {place: merged[job.name] for place, job in jobs.items() if job.name not in lost},
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
    ) -> tuple[dict[str, Shard], dict[str, str]]:
        """Evaluate all policies that can be evaluated. One that cannot costs only itself.

        :return: the episodes by the name of their evaluation, and the reason for each policy
            without them.
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
                merged = {job.name: files.get_merged(job) for job in left}
            except PolicyNotEvaluatedError as error:
                if len(left) == 1:
                    raise
                trial, step = places[error.name]
                lost[error.name] = f"{trial} at step {step:,}: {error.problem}"
                log.warning("%s; the others are selected from", lost[error.name])
                event = self._remembered()
            else:
                return merged, lost

    def _sized(self, store: ObjectStore, spec: Spec, jobs: Sequence[Job]) -> list[Job]:
        """Set each policy's shard size by its own episodes, else by the run's slowest policy."""
        files = EvaluationFiles(store, scene_of(spec))
        there = {job.name: files.read(job) for job in jobs}
        everywhere = [shard for shards in there.values() for shard in shards]
        return [
            job.in_shards_of(self._shard_episodes(there[job.name] or everywhere)) for job in jobs
        ]


def list_policies(store: ObjectStore, spec: Spec, trial: str) -> list[tuple[str, PolicyRecord]]:
    """List all complete policies of a trial, with their records' keys.

    :raises InvalidRecordError: if a record cannot be read, or names files of another trial.
    """
    found = []
    for item in store.list(policy_prefix(spec.trial_id(trial))):
        if item.key.endswith(".json"):
            where = f"{store.uri}/{item.key}"
            record = PolicyRecord.from_json(get(store, item.key).data, where)
            if problem := find_misplacement(record, item.key):
                raise InvalidRecordError(where, problem)
            found.append((item.key, record))
    return found
