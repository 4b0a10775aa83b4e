"""What a worker does for one machine of a trial: look, launch, ask, settle.

A worker can die before, during or after each step, and two workers can do a step at the same time.
The final state is the same:

    LAUNCH   reserve money (ledger, If-Match) ► write attempts/<n>.json (If-None-Match)
    ASK      adopt the machine by tag, or else CreateFleet with the attempt's frozen request and
             token ► write the outcome (If-Match)
    SETTLE   repeat the request if its answer is unknown ► terminate ► write how the attempt ended
             (If-Match)
"""

import logging
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from rl_airflow.machines.instances import Machines
from rl_airflow.machines.launch_checks import LaunchChecks
from rl_airflow.machines.market_prices import MarketPrices
from rl_airflow.run.run_resources import RunPlan
from rl_airflow.trials.attempt_files import AttemptFiles, StoredAttempt
from rl_airflow.trials.launch_money import LaunchMoney, plan_use
from rl_airflow.trials.machine_requests import MachineRequester
from rl_airflow.trials.silent_ends import explain_silence
from rl_airflow.trials.task_state import MachineMemory
from rl_lifecycle.errors import InvalidRecordError
from rl_lifecycle.experiment.compute_settings import Compute
from rl_lifecycle.machines.billing import bill_machine, total
from rl_lifecycle.machines.launch_requests import (
    Pool,
    build_fleet_request,
    market_of,
    plan_pools,
    trial_tags,
)
from rl_lifecycle.machines.machine_attempts import Attempt, AttemptOutcome, client_token
from rl_lifecycle.machines.prices import highest_on_demand_usd
from rl_lifecycle.storage.layout import LEARNER_SEAT, TrialId, head_key, heartbeat_key
from rl_lifecycle.storage.object_store import ObjectStore
from rl_lifecycle.trials.checkpoints import Head
from rl_lifecycle.trials.evidence import (
    Evidence,
    Machine,
    SeatEvidence,
    StepProgress,
    excuse,
    track_progress,
)
from rl_lifecycle.trials.heartbeats import Heartbeat
from rl_lifecycle.trials.launch_plans import LaunchPlan, plan_launch
from rl_lifecycle.trials.settlements import settle_outcome, what_is_known
from rl_lifecycle.trials.states import Finding

#: What a trainer writes, and a supervisor reads.
TrainerRecord = TypeVar("TrainerRecord", Heartbeat, Head)
#: If the bucket takes longer than this to answer, the machine may not have reached it either.
SLOW_LOOK = timedelta(seconds=60)


class Tools(NamedTuple):
    """What the supervisors of all machines of a trial share.

    :param now: the clock; returns aware UTC datetimes.
    """

    plan: RunPlan
    compute: Compute
    store: ObjectStore
    machines: Machines
    prices: MarketPrices
    checks: LaunchChecks
    money: LaunchMoney
    now: Callable[[], datetime]
    log: logging.Logger


class SeatSupervisor:
    """Looks after one machine of one trial.

    :param trial: the trial, at the seat of the machine.
    :param memory: the machine that an earlier try of the task received.
    """

    def __init__(self, tools: Tools, trial: TrialId, memory: MachineMemory) -> None:
        self.tools, self.trial, self.log = tools, trial, tools.log
        self.attempts = AttemptFiles(tools.store, trial)
        self.requester = MachineRequester(
            self.attempts,
            tools.machines,
            tools.checks,
            memory,
            zones=tools.plan.zones,
            now=tools.now,
            log=tools.log,
        )
        self._stored: tuple[StoredAttempt, ...] = ()
        self._just_written: str | None = None
        self._first_seen: int | None = None
        self._writing: str | None = None

    def look(self, progress: StepProgress | None = None) -> SeatEvidence:
        """Read all facts about the machine.

        :param progress: the stall clock of an earlier look.
        """
        began = self.tools.now()
        self._stored = self.attempts.read()
        self.begin(len(self._stored))
        newest = self._stored[-1].attempt if self._stored else None
        beat, unreadable = self._read(Heartbeat, heartbeat_key(self.trial))
        committed_step = 0
        if self.trial.seat == LEARNER_SEAT:
            commit, broken_head = self._read(Head, head_key(self.trial))
            committed_step = commit.step if commit is not None else 0
            unreadable = unreadable or broken_head
        now = self.tools.now()
        if newest is not None and now - began > SLOW_LOOK:
            progress = excuse(progress, newest.attempt, began, now)
        return SeatEvidence(
            attempts=tuple(one.attempt for one in self._stored),
            machine=self._find_machine(newest)
            if newest is not None and newest.outcome.end is None
            else None,
            heartbeat=beat,
            unreadable=unreadable,
            committed_step=committed_step,
            progress=track_progress(progress, beat, now, committed_step),
        )

    def _read(self, kind: type[TrainerRecord], key: str) -> tuple[TrainerRecord | None, str]:
        """Read what a trainer wrote. What cannot be read is a problem of that machine, in words."""
        try:
            found = self.tools.store.find(key)
            return (kind.from_json(found.data, key), "") if found is not None else (None, "")
        except InvalidRecordError as error:
            self.log.warning("%s: %s", self.trial.seat_name, error)
            return None, str(error)

    def _find_machine(self, attempt: Attempt) -> Machine | None:
        known = attempt.outcome.instance_id
        if known is not None:
            return self.tools.machines.describe([known]).get(known)
        return self.tools.machines.find(self.trial, attempt.attempt)

    @property
    def has_begun(self) -> bool:
        """Whether it is known which attempt was the newest when this worker began."""
        return self._first_seen is not None

    def begin(self, number: int | None = None) -> None:
        """Remember which attempt is the newest when this worker begins. Later calls do nothing.

        :param number: the attempt's number if it is known. None: it is read.
        """
        if self._first_seen is None:
            self._first_seen = number if number is not None else len(self.attempts.read())

    def own_attempt(self) -> int:
        """Return the number of this worker's attempt; 0 if it has none.

        That is the newest attempt when it began, or an attempt that it wrote itself. Before it
        began, it is the newest attempt.
        """
        stored = self.attempts.read()
        if self._first_seen is None:
            return len(stored)
        written = (one.attempt.attempt for one in stored if one.attempt.nonce == self._writing)
        return max(self._first_seen, *written, 0)

    def launch(self, evidence: Evidence) -> None:
        """Reserve money and write the next attempt. The next action requests its machine.

        :param evidence: that of the whole trial.
        :raises LaunchRefusedError, BudgetExceededError, NoPlaceError: if the next machine must not
            be requested now.
        """
        self._end_strays()
        own, tools = evidence.at_seat(self.trial.seat), self.tools
        number, launch = len(own.attempts) + 1, self._plan(evidence)
        template = tools.checks.check(
            tools.plan.launch_template_id,
            tools.plan.launch_template_version,
            launch.types,
            launch.market,
        )
        pools = self._plan_pools(launch)
        usd_per_hour = highest_on_demand_usd(
            {pool.instance_type for pool in pools}, tools.prices.on_demand(launch.types)
        )
        use = plan_use(own, launch.deadline_at, usd_per_hour, template)
        bill = bill_machine(use, tools.prices.services())
        reserve, name = total(bill), self.trial.seat_name
        tools.money.reserve(name, number, reserve, launch.deadline_at, tools.compute.max_parallel)
        attempt = Attempt(
            experiment=self.trial.experiment,
            run=self.trial.run,
            trial=name,
            attempt=number,
            token=client_token(self.trial, number),
            nonce=uuid.uuid4().hex,
            created_at=evidence.now,
            deadline_at=launch.deadline_at,
            price_reserved_usd=reserve,
            services_reserved_usd=reserve - bill["instance"],
            volume_gib=use.volume_gib,
            request=self._build_request(launch, pools, number),
        )
        self._writing = attempt.nonce
        if self.attempts.create(attempt):
            self._just_written = attempt.token
            # A worker that seemed dead may have released the reservation, because no attempt used
            # it until now.
            tools.money.reserve(name, number, reserve, launch.deadline_at, None)
            self.log.info(
                "%s: attempt %d, %s, %d pools, at most USD %.4f",
                name,
                number,
                launch.market,
                len(pools),
                reserve,
            )

    def _plan(self, evidence: Evidence) -> LaunchPlan:
        """Plan the launch by the experiment's rules.

        Keep the experiment's own market if the account's quota allows no machine on the other one.
        """
        launch, own = plan_launch(evidence, self.trial.seat), self.tools.compute.market
        if launch.market != own and self.tools.checks.is_hopeless(launch.types, launch.market):
            self.log.warning(
                "%s: it is time for %s, but the account's quota allows no such machine: staying "
                "on %s",
                self.trial.seat_name,
                launch.market,
                own,
            )
            launch = launch._replace(market=own)
        if self.tools.compute.machines > 1:
            launch = launch._replace(types=self.tools.checks.prefer_encrypted(launch.types))
        return launch

    def _plan_pools(self, launch: LaunchPlan) -> tuple[Pool, ...]:
        offered = self.tools.prices.offered_zones(launch.types)
        pools = plan_pools(launch.types, self.tools.plan.subnet_ids, offered)
        return tuple(pool for pool in pools if pool.zone == launch.only_zone) or pools

    def _build_request(
        self, launch: LaunchPlan, pools: tuple[Pool, ...], number: int
    ) -> dict[str, Any]:
        plan = self.tools.plan
        return build_fleet_request(
            launch_template_id=plan.launch_template_id,
            launch_template_version=plan.launch_template_version,
            pools=pools,
            market=launch.market,
            tags=trial_tags(
                plan.environment, self.trial, number, plan.spec.sha256, launch.deadline_at
            ),
            instance_profile_arn=plan.instance_profile_arn,
        )

    def _end_strays(self) -> None:
        """End machines of the seat that belong to a closed attempt.

        No attempt is open here. A late request of a dead worker can have made such a machine.
        """
        strays = [
            tagged.machine.instance_id
            for tagged in self.tools.machines.list_of_trial(self.trial)
            if tagged.machine.state.alive and tagged.seat == self.trial.seat
        ]
        if strays:
            self.log.warning(
                "%s: ending %s, whose attempt is closed", self.trial.seat_name, ", ".join(strays)
            )
            self.tools.machines.terminate(strays)

    def ask(self, seen: Machine | None) -> None:
        """Adopt or request the machine of the newest attempt of the last look.

        :param seen: the machine, if it is known already.
        """
        stored = self._stored[-1]
        just_written, self._just_written = stored.attempt.token == self._just_written, None
        self.requester.ask(stored, seen, just_written=just_written)

    def settle(self, finding: Finding, evidence: Evidence) -> bool:
        """End the machine of the last look's newest attempt, and write how the attempt ended.

        :param evidence: that of the seat.
        :return: False if the attempt must be looked at again, because its machine became known or
            another process wrote first.
        """
        stored, machine = self._stored[-1], evidence.machine
        if (
            machine is None
            and self.requester.is_unanswered(stored.attempt)
            and self.requester.end_unanswered(stored)
        ):
            return False
        self._terminate(stored.attempt.outcome, evidence)
        known = what_is_known(stored.attempt.outcome, machine)
        price = self.tools.prices.paid(
            known.instance_type or "",
            known.market or market_of(stored.attempt),
            known.zone or "",
            reserved=stored.attempt.reserved_usd_per_hour,
        )
        settlement = settle_outcome(known, evidence, finding, price, self.tools.prices.services())
        settled = self.attempts.update(stored, lambda _: settlement)
        if settled:
            self.log.info(
                "%s: attempt %d ended: %s (%.0f s, USD %.4f)",
                self.trial.seat_name,
                stored.attempt.attempt,
                finding.reason or finding.cause,
                settlement.seconds,
                settlement.usd,
            )
        return settled

    def _terminate(self, outcome: AttemptOutcome, evidence: Evidence) -> None:
        machine = evidence.machine
        instance_id = machine.instance_id if machine is not None else outcome.instance_id
        if instance_id is not None and machine is None and not _is_new(evidence):
            self.tools.machines.terminate_unseen(instance_id)
        elif instance_id is not None:
            self.tools.machines.terminate([instance_id])

    def explain(self, finding: Finding, evidence: Evidence) -> Finding:
        """Explain a learner's machine that ended in silence, from its console.

        The console of another machine is not read: that can take five minutes, and its start script
        is the learner's, which has worked.
        """
        if self.trial.seat != LEARNER_SEAT:
            return finding
        return explain_silence(self.tools.machines, finding, evidence, self.log)


def _is_new(evidence: Evidence) -> bool:
    """Whether the newest attempt's machine is so new that EC2 may not show it yet."""
    launched_at = evidence.newest.outcome.launched_at if evidence.newest is not None else None
    return (
        launched_at is not None
        and (evidence.now - launched_at).total_seconds() <= evidence.patience.visible_s
    )
