"""Advances one trial: look at all facts, do the next action, and repeat until it must wait.

A trial has a seat for each of its machines. What is done for one machine is in
:mod:`rl_airflow.trials.seat_supervisor`. Here one worker does it for all seats, and ends a trial:

    CLOSE    (from outside) terminate the trial's machines ► SETTLE each seat ► release money that
             no attempt uses
"""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from infra_bootstrap.stacks.price_list import PRICES_REGION
from rl_airflow.infrastructure.sessions import RoleSession
from rl_airflow.machines.instances import Machines
from rl_airflow.machines.launch_checks import LaunchChecks
from rl_airflow.machines.market_prices import MarketPrices
from rl_airflow.run.ledger_files import LedgerFile
from rl_airflow.run.run_resources import RunPlan
from rl_airflow.trials.launch_money import LaunchMoney
from rl_airflow.trials.learning_curves import LearningCurve
from rl_airflow.trials.seat_supervisor import SeatSupervisor, Tools
from rl_airflow.trials.task_state import MachineMemory
from rl_lifecycle.errors import BudgetExceededError, LaunchRefusedError, NoPlaceError
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.machines.machine_attempts import Attempt, AttemptEnd
from rl_lifecycle.storage.layout import LEARNER_SEAT
from rl_lifecycle.storage.object_store import ObjectStore
from rl_lifecycle.trials.actions import Action, ActionKind
from rl_lifecycle.trials.evidence import Evidence, Patience, SeatEvidence, StepProgress
from rl_lifecycle.trials.seats import SeatAction, decide_seats, next_step, why_given_up
from rl_lifecycle.trials.states import Finding, TrialState

#: The most actions for each machine in one call. A trial that needs more does not converge.
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
        self.plan, self.spec, self.trial, self.store = plan, spec, spec.trial_id(trial), store
        self.machines, self.now, self.log, self.patience = (
            machines,
            now,
            log,
            patience or Patience(),
        )
        self.curve, self.ledger = LearningCurve(trial, spec), LedgerFile(store, spec)
        money = LaunchMoney(plan, spec, self.ledger, prices.services, episode_s, now)
        compute = spec.experiment.compute
        tools = Tools(plan, compute, store, machines, prices, checks, money, now, log)
        memory = memory or MachineMemory()
        self.seats = tuple(
            SeatSupervisor(tools, seat, memory.at_seat(seat.seat)) for seat in spec.seats_of(trial)
        )
        self.learner = self.seats[LEARNER_SEAT]
        self.attempts = self.learner.attempts
        #: The seat and the attempt of each machine that the last :meth:`advance` replaced.
        self.replaced: list[tuple[int, Attempt]] = []

    def read_attempts(self) -> tuple[Attempt, ...]:
        """Read the attempts of all seats."""
        return tuple(stored.attempt for seat in self.seats for stored in seat.attempts.read())

    def observe(
        self,
        progress: StepProgress | None = None,
        collectors: Sequence[StepProgress | None] = (),
        *,
        again: bool = False,
    ) -> Evidence:
        """Read all facts about the trial.

        :param progress: the learner's stall clock of an earlier look.
        :param collectors: the stall clocks of the other machines, from seat 1 on.
        """
        if not self.learner.has_begun:
            for other in self.seats[1:]:  # another worker may work on while this one looks
                other.begin()
        experiment = self.spec.experiment
        evidence = Evidence(
            now=self.now(),
            total_timesteps=experiment.total_timesteps,
            segment_timesteps=self.spec.segment_timesteps,
            compute=experiment.compute,
            again=again,
            due_at=self.spec.due_at,
            stops_early=experiment.early_stop.active or self.spec.replay is not None,
            patience=self.patience,
            collectors=(SeatEvidence(),) * (len(self.seats) - 1),
        )
        clocks = (progress, *collectors, *(None,) * len(self.seats))
        for seat in evidence.seats:
            evidence = self._look(evidence, seat, clocks[seat])
        return evidence

    def _look(self, evidence: Evidence, seat: int, progress: StepProgress | None) -> Evidence:
        """Look at one machine, and add what is seen to what is known of the trial."""
        look = self.seats[seat].look(progress)
        one = evidence.at_seat(seat).with_look(look, self.now())
        if seat == LEARNER_SEAT:
            one = one.with_stop(self.curve.why_stop(self.store, self.plan))
        return evidence.with_seat(one)

    def advance(
        self,
        progress: StepProgress | None = None,
        collectors: Sequence[StepProgress | None] = (),
        *,
        again: bool = False,
    ) -> tuple[Action, Evidence]:
        """Do the next actions until the trial must wait or is over.

        :param progress: the stall clock of an earlier look.
        :param collectors: the stall clocks of the machines that only collect, from seat 1 on.
        :param again: a person asked for one more attempt, so a failed attempt does not stop the
            trial.
        :return: WAIT, FINISH or FAIL, with the evidence.
        :raises LaunchRefusedError, BudgetExceededError: if the next machine must not be requested.
        """
        self.replaced = []
        evidence = self.observe(progress, collectors, again=again)
        for _ in range(MOST_ACTIONS * len(self.seats)):
            actions = decide_seats(evidence)
            step = next_step(actions)
            if step is None:
                action = actions[LEARNER_SEAT].action
                if action.kind is not ActionKind.WAIT:
                    self._settle_entries(_attempts_of(evidence))
                return action, evidence
            evidence = self._do(step, evidence)
        raise LaunchRefusedError(
            f"{self.trial}: still not settled after {MOST_ACTIONS} actions; see {self.attempts.uri}"
        )

    def _do(self, step: SeatAction, evidence: Evidence) -> Evidence:
        """Do an action for one machine, and look at this machine again."""
        seat, own = self.seats[step.seat], evidence.at_seat(step.seat)
        if step.action.kind is ActionKind.LAUNCH:
            try:
                self._launch(step.seat, evidence)
            except NoPlaceError as error:
                self.log.info("%s: %s", seat.trial.seat_name, error)
                return evidence.with_seat(own.without_place())
            except (BudgetExceededError, LaunchRefusedError) as error:
                if step.seat == LEARNER_SEAT or not own.attempts:
                    raise
                self.log.warning("%s: %s; the trial goes on", seat.trial.seat_name, error)
                return evidence.with_seat(own.without_launch())
            if step.seat == LEARNER_SEAT:
                evidence = evidence.launched()
        elif step.action.kind is ActionKind.ASK:
            seat.ask(own.machine)
        else:
            seat.settle(seat.explain(step.action.finding, own), own)
        evidence = self._look(evidence, step.seat, own.progress)
        if step.action.kind is not ActionKind.LAUNCH and step.seat != LEARNER_SEAT:
            self._warn_of_given_up(evidence, step.seat)
        return evidence

    def _launch(self, seat: int, evidence: Evidence) -> None:
        own = evidence.at_seat(seat)
        self._settle_entries(own.attempts)
        self.seats[seat].launch(evidence)
        if own.newest is not None and own.newest.outcome.instance_id is not None:
            self.replaced.append((seat, own.newest))

    def _warn_of_given_up(self, evidence: Evidence, seat: int) -> None:
        newest = evidence.at_seat(seat).newest
        if newest is not None and newest.outcome.end and (why := why_given_up(evidence, seat)):
            self.log.warning("%s: %s", self.trial.at_seat(seat).seat_name, why)

    def cancel(self, reason: str) -> None:
        """Terminate the trial's machines and close its open attempts. The call can be repeated.

        :raises Exception: if AWS does not answer. The attempts are then still open, and you can
            repeat the call.
        """
        self.machines.terminate(
            tagged.machine.instance_id for tagged in self.machines.list_of_trial(self.trial)
        )
        self._close(
            [len(seat.attempts.read()) for seat in self.seats],
            Finding(state=TrialState.CANCELLED, cause=AttemptEnd.CANCELLED, reason=reason),
        )

    def drop(self, attempts: Sequence[int] | None, reason: str) -> None:
        """Terminate the machines of attempts and close the attempts, so that their places are free.

        This is for a killed task. A clear or a retry may already work on later attempts, so later
        attempts are not changed. A later look may launch other machines.

        :param attempts: the number of the attempt for each seat. None means this worker's attempts;
            see :meth:`SeatSupervisor.own_attempt`.
        :raises Exception: as :meth:`cancel`.
        """
        last = attempts if attempts is not None else [seat.own_attempt() for seat in self.seats]
        self.machines.terminate_attempts(self.trial, last)
        self._close(
            last,
            Finding(state=TrialState.INTERRUPTED, cause=AttemptEnd.MACHINE_LOST, reason=reason),
        )

    def _close(self, last: Sequence[int], otherwise: Finding) -> None:
        """Settle attempts that are the newest and open, and release money reserved after them.

        A finished training is settled as finished, otherwise the attempts end as `otherwise`.

        :param last: the number of the attempt for each seat.
        """
        evidence = self.observe()
        for seat, number in zip(evidence.seats, last, strict=False):
            evidence = self._close_seat(evidence, seat, number, otherwise)
        self._release(evidence, last)
        self.settle_ledger()

    def _close_seat(
        self, evidence: Evidence, seat: int, number: int, otherwise: Finding
    ) -> Evidence:
        for _ in range(MOST_ACTIONS):  # others may write at the same time
            own = evidence.at_seat(seat)
            newest = own.newest
            if newest is None or newest.attempt != number or newest.outcome.end is not None:
                break
            finding = decide_seats(evidence)[seat].action.finding
            is_trained = finding.state is TrialState.FINISHED
            is_settled = self.seats[seat].settle(finding if is_trained else otherwise, own)
            evidence = self._look(evidence, seat, None)
            if is_settled:
                break
        return evidence

    def _release(self, evidence: Evidence, last: Sequence[int]) -> None:
        """Release the money that was reserved for attempts that were never written."""
        entries = self.ledger.read().entries
        for seat, number in zip(evidence.seats, last, strict=False):
            name = self.trial.at_seat(seat).seat_name
            if len(evidence.at_seat(seat).attempts) == number and any(
                entry.trial == name and entry.attempt > number for entry in entries
            ):
                self.ledger.change(lambda before, n=name, m=number: before.release(n, m))  # type: ignore[misc]

    def settle_ledger(self) -> None:
        """Copy the ended attempts of all seats into the ledger. Settled entries stay the same."""
        self._settle_entries(self.read_attempts())

    def _settle_entries(self, attempts: Sequence[Attempt]) -> None:
        ended = [one for one in attempts if one.outcome.end is not None]
        if not ended:
            return
        ledger = self.ledger.read()
        for attempt in ended:
            entry, outcome = ledger.find(attempt.trial, attempt.attempt), attempt.outcome
            if entry is not None and entry.usd is not None:
                continue
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


def _attempts_of(evidence: Evidence) -> tuple[Attempt, ...]:
    return tuple(one for seat in evidence.seats for one in evidence.at_seat(seat).attempts)


def make_supervisor(
    plan: RunPlan,
    session: RoleSession,
    trial: str,
    log: logging.Logger,
    *,
    spec: Spec | None = None,
    memory: MachineMemory | None = None,
    episode_s: float | None = None,
) -> TrialSupervisor:
    """Make the supervisor of a trial from a run's plan and a session.

    :param session: the launcher's session.
    :param spec: the run's spec. If it is None, it is read from the bucket.
    :param memory: the stored state of the task, or None.
    :param episode_s: how long the environment's longest episode takes without a policy, if that is
        known, seconds.
    """
    store, ec2 = plan.store(session), session.client("ec2")
    prices = MarketPrices(ec2, log, lambda: session.client_in(PRICES_REGION, "pricing"))
    checks = LaunchChecks(ec2, log, lambda: session.client("service-quotas"))
    return TrialSupervisor(
        plan,
        spec or plan.get_spec(store),
        trial,
        store,
        Machines(ec2, plan.environment, plan.zones),
        prices,
        checks=checks,
        now=lambda: datetime.now(UTC),
        log=log,
        memory=memory,
        episode_s=episode_s,
    )
