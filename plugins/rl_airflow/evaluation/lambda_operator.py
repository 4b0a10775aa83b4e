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
from rl_airflow.evaluation.evaluator import (
    EvaluationFiles,
    Evaluator,
    Gap,
    Job,
    Scene,
    plan_shard_episodes,
)
from rl_airflow.evaluation.trigger import LambdaEvaluationTrigger
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
#: A new policy in the bucket starts its own selection. Episodes missing after this are requested.
ARRIVAL_GRACE_S = 10.0


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
