"""Advances one trial: look at all facts, do the next action, and repeat until it must wait.

A worker can die before, during or after each step, and two workers can do a step at the same time.
The final state is the same:

    LAUNCH   reserve money (ledger, If-Match) ► write attempts/<n>.json (If-None-Match)
    ASK      adopt the machine by tag, or else CreateFleet with the attempt's frozen request and
             token ► write the outcome (If-Match)
    SETTLE   terminate ► write how the attempt ended (If-Match) ► settle the ledger
    CLOSE    (from outside) repeat the request if its answer is unknown ► SETTLE ► release money
             that no attempt uses
"""

import logging
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from rl_airflow.machines.instances import Machines
from rl_airflow.machines.launch_checks import LaunchChecks
from rl_airflow.machines.market_prices import MarketPrices
from rl_airflow.run.ledger_files import LedgerFile
from rl_airflow.run.run_resources import RunPlan
from rl_airflow.trials.attempt_files import AttemptFiles, StoredAttempt
from rl_airflow.trials.launch_money import LaunchMoney, plan_use
from rl_airflow.trials.learning_curves import LearningCurve
from rl_airflow.trials.machine_requests import MachineRequester
from rl_airflow.trials.silent_ends import explain_silence
from rl_airflow.trials.task_state import MachineMemory
from rl_lifecycle.errors import InvalidRecordError, LaunchRefusedError, NoPlaceError
from rl_lifecycle.experiment.due_times import spot_leaves_time
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.machines.billing import bill_machine, total
from rl_lifecycle.machines.launch_requests import (
    Market,
    build_fleet_request,
    market_of,
    plan_deadline,
    plan_market,
    plan_pools,
    plan_types,
    trial_tags,
)
from rl_lifecycle.machines.machine_attempts import Attempt, AttemptEnd, client_token
from rl_lifecycle.machines.prices import highest_on_demand_usd
from rl_lifecycle.storage.layout import head_key, heartbeat_key
from rl_lifecycle.storage.object_store import ObjectStore
from rl_lifecycle.trials.actions import Action, ActionKind, decide_action
from rl_lifecycle.trials.checkpoints import Head
from rl_lifecycle.trials.evidence import (
    Evidence,
    Machine,
    Patience,
    StepProgress,
    excuse,
    track_progress,
)
from rl_lifecycle.trials.heartbeats import Heartbeat
from rl_lifecycle.trials.settlements import settle_outcome, what_is_known
from rl_lifecycle.trials.states import Finding, TrialState

#: What a trainer writes, and a supervisor reads.
TrainerRecord = TypeVar("TrainerRecord", Heartbeat, Head)
#: If the bucket takes longer than this to answer, the machine may not have reached it either.
SLOW_LOOK = timedelta(seconds=60)
#: The most actions in one call. A trial that needs more does not converge.
MOST_ACTIONS = 20


class TrialSupervisor:
    """Advances one trial of one run.

    :param now: the clock; returns aware UTC datetimes.
    :param memory: the stored state of the task, or None.
    :param episode_s: how long the environment's longest episode takes without a policy, if that is
        known, seconds.
    """

    def __init__(
        self,
        plan: RunPlan,
        spec: Spec,
        trial: str,
        store: ObjectStore,
        machines: Machines,
        prices: MarketPrices,
        *,
        checks: LaunchChecks,
        now: Callable[[], datetime],
        log: logging.Logger,
        patience: Patience | None = None,
        memory: MachineMemory | None = None,
        episode_s: float | None = None,
    ) -> None:
        self.plan, self.spec, self.trial = plan, spec, spec.trial_id(trial)
        self.store, self.machines, self.prices = store, machines, prices
        self.checks, self.now, self.log, self.patience = checks, now, log, patience or Patience()
        self.curve = LearningCurve(trial, spec)
        self.attempts = AttemptFiles(store, self.trial)
        self.ledger = LedgerFile(store, spec)
        self.money = LaunchMoney(plan, spec, self.ledger, prices.services, episode_s, now)
        self.requester = MachineRequester(
            self.attempts,
            machines,
            checks,
            memory or MachineMemory(),
            zones=plan.zones,
            now=now,
            log=log,
        )
        self._just_written: str | None = None
        self._first_seen: int | None = None
        self._writing: str | None = None

    def read_attempts(self) -> tuple[StoredAttempt, ...]:
        """Read the trial's attempts. The newest one of the first call belongs to this worker (see
        :meth:`drop`).
        """
        stored = self.attempts.read()
        if self._first_seen is None:
            self._first_seen = len(stored)
        return stored

    def observe(
        self, progress: StepProgress | None = None, *, again: bool = False
    ) -> tuple[Evidence, tuple[StoredAttempt, ...]]:
        """Read all facts about the trial."""
        began = self.now()
        stored = self.read_attempts()
        newest = stored[-1].attempt if stored else None
        beat, unreadable = self._read(Heartbeat, heartbeat_key(self.trial))
        commit, broken_head = self._read(Head, head_key(self.trial))
        now = self.now()
        committed_step = commit.step if commit is not None else 0
        if newest is not None and now - began > SLOW_LOOK:
            progress = excuse(progress, newest.attempt, began, now)
        evidence = Evidence(
            now=now,
            total_timesteps=self.spec.experiment.total_timesteps,
            segment_timesteps=self.spec.segment_timesteps,
            compute=self.spec.experiment.compute,
            attempts=tuple(one.attempt for one in stored),
            machine=self._find_machine(newest)
            if newest is not None and newest.outcome.end is None
            else None,
            heartbeat=beat,
            unreadable=unreadable or broken_head,
            committed_step=committed_step,
            progress=track_progress(progress, beat, now, committed_step),
            again=again,
            due_at=self.spec.due_at,
            stops_early=self.spec.experiment.early_stop.active or self.spec.replay is not None,
            stop=self.curve.why_stop(self.store, self.plan),
            patience=self.patience,
        )
        return evidence, stored

    def _read(self, kind: type[TrainerRecord], key: str) -> tuple[TrainerRecord | None, str]:
        """Read what a trainer wrote. What cannot be read is a problem of that machine, in words."""
        try:
            found = self.store.find(key)
            return (kind.from_json(found.data, key), "") if found is not None else (None, "")
        except InvalidRecordError as error:
            self.log.warning("%s: %s", self.trial.trial, error)
            return None, str(error)

    def advance(
        self, progress: StepProgress | None = None, *, again: bool = False
    ) -> tuple[Action, Evidence]:
        """Do the next actions until the trial must wait or is over.

        :param progress: the stall clock of an earlier look.
        :param again: a person asked for one more attempt, so a failed attempt does not stop the
            trial.
        :return: WAIT, FINISH or FAIL, with the evidence.
        :raises LaunchRefusedError, BudgetExceededError: if the next machine must not be requested.
        """
        for _ in range(MOST_ACTIONS):
            evidence, stored = self.observe(progress, again=again)
            action = decide_action(evidence)
            if action.kind is ActionKind.LAUNCH:
                try:
                    self._launch(evidence)
                except NoPlaceError as error:
                    return self._wait_for_place(action, evidence, error)
                again = False
            elif action.kind is ActionKind.ASK:
                just_written, self._just_written = (
                    stored[-1].attempt.token == self._just_written,
                    None,
                )
                self.requester.ask(stored[-1], evidence.machine, just_written=just_written)
            elif action.kind is ActionKind.SETTLE:
                finding = explain_silence(self.machines, action.finding, evidence, self.log)
                self._settle(stored[-1], finding, evidence)
            else:
                if action.kind is not ActionKind.WAIT:
                    self.settle_ledger(evidence.attempts)
                return action, evidence
        raise LaunchRefusedError(
            f"{self.trial}: still not settled after {MOST_ACTIONS} actions; see {self.attempts.uri}"
        )

    def _wait_for_place(
        self, action: Action, evidence: Evidence, error: NoPlaceError
    ) -> tuple[Action, Evidence]:
        self.log.info("%s: %s", self.trial.trial, error)
        finding = action.finding.with_reason(str(error))
        return Action(kind=ActionKind.WAIT, finding=finding), evidence.without_place()

    def cancel(self, reason: str) -> None:
        """Terminate the trial's machines and close its open attempt. The call can be repeated.

        :raises Exception: if AWS does not answer. The attempt is then still open, and you can
            repeat the call.
        """
        self.machines.terminate(
            tagged.machine.instance_id for tagged in self.machines.list_of_trial(self.trial)
        )
        self._close(
            len(self.attempts.read()),
            Finding(state=TrialState.CANCELLED, cause=AttemptEnd.CANCELLED, reason=reason),
        )

    def drop(self, attempt: int | None, reason: str) -> None:
        """Terminate the machine of an attempt and close the attempt, so that its place is free.

        This is for a killed task. A clear or a retry may already work on a later attempt, so a
        later attempt is not changed. A later look may launch another machine.

        :param attempt: None means this worker's attempt. That is the newest attempt of its first
            look, or an attempt that it wrote itself. Before the first look it is the newest
            attempt.
        :raises Exception: as :meth:`cancel`.
        """
        last = attempt if attempt is not None else self._own_attempt()
        self.machines.terminate_attempts(self.trial, last)
        self._close(
            last,
            Finding(state=TrialState.INTERRUPTED, cause=AttemptEnd.MACHINE_LOST, reason=reason),
        )

    def _own_attempt(self) -> int:
        """Return the number of this worker's attempt; 0 if it has none."""
        stored = self.attempts.read()
        if self._first_seen is None:
            return len(stored)
        written = (one.attempt.attempt for one in stored if one.attempt.nonce == self._writing)
        return max(self._first_seen, *written, 0)

    def _close(self, number: int, otherwise: Finding) -> None:
        """Settle an attempt if it is the newest and open, and release money reserved after it.

        A finished training is settled as finished, otherwise the attempt ends as `otherwise`.
        """
        stored = self.attempts.read()
        if stored and len(stored) == number and self.requester.is_unanswered(stored[-1].attempt):
            self.requester.end_unanswered(stored[-1])
        for _ in range(MOST_ACTIONS):  # others may write at the same time
            evidence, stored = self.observe()
            if not stored or len(stored) != number or stored[-1].attempt.outcome.end is not None:
                break
            finding = decide_action(evidence).finding
            if self._settle(
                stored[-1], finding if finding.state is TrialState.FINISHED else otherwise, evidence
            ):
                break
        if len(stored) == number and any(
            entry.trial == self.trial.trial and entry.attempt > number
            for entry in self.ledger.read().entries
        ):
            self.ledger.change(lambda before: before.release(self.trial.trial, number))
        self._settle_all()

    def _settle_all(self) -> None:
        self.settle_ledger(tuple(stored.attempt for stored in self.attempts.read()))

    def settle_ledger(self, attempts: tuple[Attempt, ...]) -> None:
        """Copy the ended attempts into the ledger. Settled entries stay the same."""
        ended = [
            (attempt, attempt.outcome) for attempt in attempts if attempt.outcome.end is not None
        ]
        if not ended:
            return
        ledger = self.ledger.read()
        if all(
            (entry := ledger.find(a.trial, a.attempt)) is not None and entry.usd is not None
            for a, _ in ended
        ):
            return

        for attempt, outcome in ended:
            self.ledger.change(
                lambda before, a=attempt, o=outcome: before.settle(  # type: ignore[misc]
                    a.trial,
                    a.attempt,
                    usd=o.usd or 0.0,
                    seconds=o.seconds or 0.0,
                    instance_type=o.instance_type,
                    market=o.market,
                )
            )

    def _find_machine(self, attempt: Attempt) -> Machine | None:
        known = attempt.outcome.instance_id
        if known is not None:
            return self.machines.describe([known]).get(known)
        return self.machines.find(self.trial, attempt.attempt)

    def _launch(self, evidence: Evidence) -> None:
        """Reserve money and write the next attempt. The next action requests its machine."""
        self._end_strays()
        self.settle_ledger(evidence.attempts)
        number, compute = len(evidence.attempts) + 1, evidence.compute
        types = plan_types(compute, evidence.attempts)
        market = self._choose_market(evidence, types)
        template = self.checks.check(
            self.plan.launch_template_id, self.plan.launch_template_version, types, market
        )
        deadline_at = plan_deadline(compute, evidence.attempts, evidence.now)
        offered = self.prices.offered_zones(types)
        pools = plan_pools(types, self.plan.subnet_ids, offered)
        usd_per_hour = highest_on_demand_usd(
            {pool.instance_type for pool in pools}, self.prices.on_demand(types)
        )
        use = plan_use(evidence, deadline_at, usd_per_hour, template)
        bill = bill_machine(use, self.prices.services())
        reserve = total(bill)
        self.money.reserve(self.trial.trial, number, reserve, deadline_at, compute.max_parallel)
        attempt = Attempt(
            experiment=self.trial.experiment,
            run=self.trial.run,
            trial=self.trial.trial,
            attempt=number,
            token=client_token(self.trial, number),
            nonce=uuid.uuid4().hex,
            created_at=evidence.now,
            deadline_at=deadline_at,
            price_reserved_usd=reserve,
            services_reserved_usd=reserve - bill["instance"],
            volume_gib=use.volume_gib,
            request=build_fleet_request(
                launch_template_id=self.plan.launch_template_id,
                launch_template_version=self.plan.launch_template_version,
                pools=pools,
                market=market,
                tags=trial_tags(
                    self.plan.environment, self.trial, number, self.plan.spec.sha256, deadline_at
                ),
                instance_profile_arn=self.plan.instance_profile_arn,
            ),
        )
        self._writing = attempt.nonce
        if self.attempts.create(attempt):
            self._just_written = attempt.token
            # A worker that seemed dead may have released the reservation, because no attempt used
            # it until now.
            self.money.reserve(self.trial.trial, number, reserve, deadline_at, None)
            self.log.info(
                "%s: attempt %d, %s, %d pools, at most USD %.4f",
                self.trial.trial,
                number,
                market,
                len(pools),
                reserve,
            )

    def _choose_market(self, evidence: Evidence, types: tuple[str, ...]) -> Market:
        """Choose the market by the experiment's rules.

        Keep the experiment's own market if the account's quota allows no machine on the other one.
        """
        in_time = spot_leaves_time(
            evidence.due_at, evidence.now, evidence.left_s, evidence.segment_s
        )
        market = plan_market(evidence.compute, evidence.attempts, spot_in_time=in_time)
        if market != evidence.compute.market and self.checks.is_hopeless(types, market):
            self.log.warning(
                "%s: it is time for %s, but the account's quota allows no such machine: staying "
                "on %s",
                self.trial.trial,
                market,
                evidence.compute.market,
            )
            return evidence.compute.market
        return market

    def _end_strays(self) -> None:
        """End machines of the trial that belong to a closed attempt.

        No attempt is open here. A late request of a dead worker can have made such a machine.
        """
        strays = [
            tagged.machine.instance_id
            for tagged in self.machines.list_of_trial(self.trial)
            if tagged.machine.state.alive
        ]
        if strays:
            self.log.warning(
                "%s: ending %s, whose attempt is closed", self.trial.trial, ", ".join(strays)
            )
            self.machines.terminate(strays)

    def _settle(self, stored: StoredAttempt, finding: Finding, evidence: Evidence) -> bool:
        """Terminate the machine, then write how the attempt ended and what it cost.

        :return: False if another process wrote first.
        """
        outcome, machine = stored.attempt.outcome, evidence.machine
        instance_id = machine.instance_id if machine is not None else outcome.instance_id
        if instance_id is not None and machine is None and not _is_new(evidence):
            self.machines.terminate_unseen(instance_id)
        elif instance_id is not None:
            self.machines.terminate([instance_id])
        known = what_is_known(outcome, machine)
        price = self.prices.paid(
            known.instance_type or "",
            known.market or market_of(stored.attempt),
            known.zone or "",
            reserved=stored.attempt.reserved_usd_per_hour,
        )
        settlement = settle_outcome(known, evidence, finding, price, self.prices.services())
        settled = self.attempts.update(stored, lambda _: settlement)
        if settled:
            self.log.info(
                "%s: attempt %d ended: %s (%.0f s, USD %.4f)",
                self.trial.trial,
                stored.attempt.attempt,
                finding.reason or finding.cause,
                settlement.seconds,
                settlement.usd,
            )
        return settled


def _is_new(evidence: Evidence) -> bool:
    """Whether the newest attempt's machine is so new that EC2 may not show it yet."""
    launched_at = evidence.newest.outcome.launched_at if evidence.newest is not None else None
    return (
        launched_at is not None
        and (evidence.now - launched_at).total_seconds() <= evidence.patience.visible_s
    )
