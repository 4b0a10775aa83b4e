"""The money of a run's evaluations: reserved before they are requested, settled from their shards.

A shard says how long its invocation played. Invocations that a task waited for are counted in the
ledger with the time that the task waited.
"""

import logging
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Self

from rl_airflow.errors import first_line
from rl_airflow.infrastructure.service_prices import prices_of_session
from rl_airflow.infrastructure.sessions import RoleSession
from rl_airflow.run.ledger_files import LedgerFile
from rl_airflow.run.run_resources import RunPlan
from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.evaluation.requests import EnvironmentReport
from rl_lifecycle.evaluation.stored_shards import read_shard
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.machines.billing import (
    FUNCTION_MEMORY_MIB,
    FUNCTION_TIME_LIMIT_S,
    LONGEST_START_S,
    FunctionUse,
    bill_functions,
    invocation_s,
    total,
)
from rl_lifecycle.machines.ledger import EvaluationEntry
from rl_lifecycle.machines.service_prices import ServicePrices
from rl_lifecycle.storage.layout import evaluations_prefix
from rl_lifecycle.storage.object_store import ObjectInfo, ObjectStore

log = logging.getLogger(__name__)

SHARDS = "/shards/"
#: Lambda tries an event again twice (`MaximumRetryAttempts` in templates/evaluation.yaml).
TRIES = 3


class EvaluationMoney:
    """The money of the evaluations of one run.

    :param store: the bucket, as the launcher, who alone writes the ledger.
    :param services: returns the prices.
    """

    def __init__(
        self,
        plan: RunPlan,
        spec: Spec,
        store: ObjectStore,
        services: Callable[[], ServicePrices],
    ) -> None:
        self.store, self.services = store, services
        self.ledger = LedgerFile(store, spec)
        self.prefix = evaluations_prefix(plan.experiment, plan.run)
        self.memory_mib = plan.evaluator_memory_mib or FUNCTION_MEMORY_MIB
        self._shard_s: dict[str, float] = {}

    @classmethod
    def of_run(cls, plan: RunPlan, session: RoleSession) -> "Self | None":
        """Make it for the run of a plan. None: the plan has no run with a budget.

        :param session: the launcher's session.
        """
        if plan.ledger_key is None:
            return None
        store = plan.store(session)
        return cls(plan, plan.get_spec(store), store, lambda: prices_of_session(session, log))

    def count_call(self, seconds: float) -> None:
        """Count an invocation that a task waited for."""
        self.ledger.change(lambda before: before.with_calls(1, seconds))

    def count_lost(self, episodes: Iterable[int], episode_s: float | None) -> None:
        """Count requested shards that never arrived, with all tries that Lambda may have made.

        :param episodes: the number of episodes of each shard.
        :param episode_s: as in :func:`rl_lifecycle.machines.billing.invocation_s`.
        """
        lost = [TRIES * invocation_s(n, episode_s) for n in episodes]
        self.ledger.change(lambda before: before.with_calls(TRIES * len(lost), sum(lost)))

    def reserve(self, episodes: Iterable[int], episode_s: float | None) -> None:
        """Reserve the money for shards that are requested, with all that was evaluated before.

        :param episodes: the number of episodes of each shard.
        :param episode_s: as in :func:`rl_lifecycle.machines.billing.invocation_s`.
        :raises BudgetExceededError: if the budget does not cover them.
        """
        asked = [invocation_s(n, episode_s) for n in episodes]
        use = self._use(self.ledger.read().evaluation or EvaluationEntry())
        needed = use._replace(
            invocations=use.invocations + len(asked), seconds=use.seconds + sum(asked)
        )
        usd = total(bill_functions(needed, self.prices))
        self.ledger.change(lambda before: before.reserve_evaluation(usd))

    def settle(self) -> None:
        """Record what the evaluations have cost so far. A repetition counts them again."""
        before = self.ledger.read().evaluation
        use = self._use(before or EvaluationEntry())
        if before is None and not use.invocations:
            return
        usd = total(bill_functions(use, self.prices))
        self.ledger.change(
            lambda ledger: ledger.settle_evaluation(usd, use.invocations, use.seconds)
        )

    @cached_property
    def prices(self) -> ServicePrices:
        """The prices, which are read once."""
        return self.services()

    def _seconds_of(self, item: ObjectInfo) -> float:
        """Find how long a shard's invocation took at most.

        Foreign code may write any bytes as its shard. Then the invocation took as long as it may.
        """
        try:
            seconds = read_shard(self.store, item).seconds
        except InvalidRecordError as error:
            log.warning("%s; it counts with a function's time limit", first_line(error))
            return FUNCTION_TIME_LIMIT_S
        return min(FUNCTION_TIME_LIMIT_S, LONGEST_START_S + seconds)

    def _use(self, counted: EvaluationEntry) -> FunctionUse:
        """Count what was used: the shards in the bucket, and the calls in the ledger."""
        for item in self.store.list(self.prefix):
            if SHARDS in item.key and item.key not in self._shard_s:
                self._shard_s[item.key] = self._seconds_of(item)
        return FunctionUse(
            invocations=len(self._shard_s) + counted.calls,
            seconds=sum(self._shard_s.values()) + counted.call_seconds,
            memory_mib=self.memory_mib,
        )


def settle_evaluations(plan: RunPlan, session: RoleSession) -> None:
    """Settle the money of a run's evaluations, or log why that is not possible now.

    It comes after the machines are gone, and before a report. Neither must fail because of it.

    :param session: the launcher's session.
    """
    try:
        if (money := EvaluationMoney.of_run(plan, session)) is not None:
            money.settle()
    except Exception as error:  # S3, the ledger and the price list fail in many ways
        log.error("the evaluations are not settled: %s; clear this task later", first_line(error))


def longest_episode_s(environment: EnvironmentReport | None) -> float | None:
    """How long the longest episode takes without a policy, seconds; None if it is not known."""
    if environment is None or not environment.steps_per_s or not environment.max_episode_steps:
        return None
    return environment.max_episode_steps / environment.steps_per_s
