"""The base of the operators that use the evaluator.

All of them wait in the same way: request the missing episodes, look, and defer until they exist. So
after a retry, a clear or a lost event, only the missing episodes are evaluated again.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

from airflow.sdk.exceptions import AirflowFailException

from rl_airflow.errors import (
    EvaluationFailedError,
    OtherVersionError,
    PolicyNotEvaluatedError,
)
from rl_airflow.evaluation.evaluation_files import EvaluationFiles, Missing, plan_shard_episodes
from rl_airflow.evaluation.evaluator import Evaluator, Gap, Job, Scene
from rl_airflow.evaluation.trigger import LambdaEvaluationTrigger
from rl_airflow.infrastructure.xcom_fields import XComField, value_of
from rl_airflow.run.evaluation_money import EvaluationMoney, longest_episode_s
from rl_airflow.run.run_operator import RunOperator
from rl_airflow.run.run_resources import RunPlan
from rl_lifecycle.errors import BudgetExceededError
from rl_lifecycle.evaluation.requests import EnvironmentReport, Shard
from rl_lifecycle.storage.object_store import ObjectStore

log = logging.getLogger(__name__)

#: The worker waits this long before it defers, because a small evaluation ends in this time.
LOOK_HERE_S, LOOK_EVERY_S = 6.0, 0.4
#: After this time without a new shard, one missing shard is requested synchronously, to get its
#: error, seconds.
QUIET_S = 120.0
#: Silent shards are requested again after so many probes that ran at once, without news in between.
#: Together they take longer than the five minutes for which Lambda may put an event aside when it
#: was too busy for it. It keeps a request to the player for 45 minutes (`PlayerAsync` in
#: templates/evaluation.yaml). To request all shards again while they are queued would play and pay
#: for them twice.
#: https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
PROBES = 3
#: A new policy in the bucket starts its own selection. Episodes missing after this are requested.
ARRIVAL_GRACE_S = 10.0


class LambdaRunOperator(RunOperator):
    """The base of the operators that evaluate policies of a run.

    :param environment: the report of `check_environment`. Its speed counts until episodes were
        played.
    :param deferrable: True waits in the triggerer. False waits in the worker and holds a slot.
    """

    template_fields: Sequence[str] = ("plan", "environment")
    environment = XComField()

    def __init__(self, *, environment: Any = None, deferrable: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.environment, self.deferrable = environment, deferrable
        self._known_money: EvaluationMoney | None = None
        self._asked, self._lost, self._probes = set[Gap](), set[Gap](), 0

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
        return (
            EnvironmentReport.model_validate(value_of(self.environment))
            if self.environment
            else None
        )

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
        self._remember(event)
        if arriving and event is None:
            self._look(files, jobs, set(files.find_gaps(jobs)), ARRIVAL_GRACE_S)
        by_name = {job.name: job for job in jobs}
        while (missing := files.find_missing(jobs, self._asked)).gaps:
            if (event or {}).get("quiet"):
                self._asked = self._probe(plan, evaluator, files, jobs, missing)
                event = None
                continue
            if money is not None and missing.unasked:
                self._reserve(money, {*missing.in_flight, *missing.unasked})
            for gap in missing.unasked:
                evaluator.start(scene, by_name[gap.name], gap)
            self._asked = {*missing.in_flight, *missing.unasked}
            if not self._look(files, jobs, self._asked, LOOK_HERE_S):
                event = self._wait(plan, scene, jobs, self._asked, token)
                self._remember(event)
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

    def _probe(
        self,
        plan: RunPlan,
        evaluator: Evaluator,
        files: EvaluationFiles,
        jobs: Sequence[Job],
        missing: Missing,
    ) -> set[Gap]:
        """Request one silent shard and wait for it, to learn why there is no news.

        :return: the requested shards that may still arrive. While AWS is too busy for a probe, and
            for some probes more, Lambda keeps them in its queue. After :data:`PROBES` probes that
            ran at once, one after the other, they would have run, too.
        :raises PolicyNotEvaluatedError: if the policy cannot be played.
        """
        gap = missing.gaps[0]
        job = next(job for job in jobs if job.name == gap.name)
        log.warning(
            "%s: no news for %.0f s; asking for episode %d and waiting",
            job.name,
            QUIET_S,
            gap.offset,
        )
        refusals = evaluator.refusals
        try:
            evaluator.evaluate(files.scene, job, gap)
        except OtherVersionError:
            raise
        except EvaluationFailedError as error:
            self._count_lost(plan, {gap for gap in missing.in_flight if gap.name == job.name})
            raise PolicyNotEvaluatedError(job.name, error) from None
        self._probes = 0 if evaluator.refusals > refusals else self._probes + 1
        silent = files.find_missing(jobs, missing.in_flight).in_flight
        if self._probes < PROBES:
            return silent
        self._probes = 0
        self._count_lost(plan, silent)
        return set()

    def _count_lost(self, plan: RunPlan, gaps: set[Gap]) -> None:
        """Count the money of requested shards that never arrived, once for each first episode."""
        counted = {(gap.name, gap.offset) for gap in self._lost}
        lost = {gap for gap in gaps if (gap.name, gap.offset) not in counted}
        self._lost |= lost
        if lost and (money := self._money(plan)) is not None:
            episodes = [gap.n_episodes for gap in lost]
            money.count_lost(episodes, longest_episode_s(self._environment()))

    def _remember(self, event: dict[str, Any] | None) -> None:
        """Take over from an event what was requested and lost, and the probes without news. Older
        triggers name only what was requested.
        """
        found = event or {}
        self._asked = {Gap(*gap) for gap in found.get("asked") or ()}
        self._lost = {Gap(*gap) for gap in found.get("lost") or ()}
        self._probes = int(found.get("probes") or 0)

    def _remembered(self) -> dict[str, Any]:
        """Describe what was requested, and what was lost, as an event."""
        return {"asked": _as_lists(self._asked), "lost": _as_lists(self._lost)}

    def _wait(
        self, plan: RunPlan, scene: Scene, jobs: Sequence[Job], asked: set[Gap], token: Any
    ) -> dict[str, Any]:
        trigger = LambdaEvaluationTrigger(
            plan=plan.to_xcom(),
            scene=scene.model_dump(mode="json"),
            jobs=[job.model_dump(mode="json") for job in jobs],
            asked=_as_lists(asked),
            lost=_as_lists(self._lost),
            probes=self._probes,
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


def _as_lists(gaps: set[Gap]) -> list[list[Any]]:
    return [list(gap) for gap in sorted(gaps)]
