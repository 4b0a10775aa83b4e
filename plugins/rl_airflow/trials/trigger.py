"""The trigger of a trial: waits until the worker has something to do for the trial."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, Self

from airflow.triggers.base import BaseTrigger, TriggerEvent

from rl_airflow.errors import first_line
from rl_airflow.infrastructure.patience import Outage
from rl_airflow.machines.instances import Machines
from rl_airflow.run.run_resources import RunPlan
from rl_airflow.trials.learning_curves import LearningCurve, find_shards
from rl_airflow.trials.log_relay import LogPosition, relay
from rl_airflow.trials.progress_reports import describe_progress
from rl_airflow.trials.shared_watch import (
    FORGOTTEN_S,
    SHARED_S,
    SharedWatch,
    Sighting,
    TrialWatch,
    Wanted,
    shared_watch,
    until_next,
)
from rl_airflow.trials.supervisor import make_supervisor
from rl_lifecycle.machines.machine_attempts import ENDED_BY_HAND, Attempt
from rl_lifecycle.machines.prices import table_usd
from rl_lifecycle.storage.layout import LEARNER_SEAT, TrialId
from rl_lifecycle.storage.s3_store import S3Store
from rl_lifecycle.trials.evidence import Evidence, StepProgress, excuse, track_progress
from rl_lifecycle.trials.heartbeats import Heartbeat
from rl_lifecycle.trials.seats import needs_worker
from rl_lifecycle.trials.states import LAST_WORDS

log = logging.getLogger(__name__)

#: The scheduler can fail a trigger that fires at once (apache/airflow#67287), so the first look
#: comes after this time, seconds.
FIRST_LOOK_S = 2.0
#: The pause between looks is this share of the machine's age: such a delay costs little.
SHARE_OF_AGE = 0.05
#: The longest time between two reads of a heartbeat, seconds.
REFRESH_MOST_S = 300.0
#: The shortest time between two reads of the heartbeat of a machine that only collects, seconds.
#: The learner reports on all of them, and what such a machine wrote last is read when it has ended.
COLLECTOR_REFRESH_S = 60.0
#: A trial that waits for a free place waits TURN_S for each trial before it, but at most
#: MOST_TURN_S. So a ledger is read once in a few seconds.
TURN_S, MOST_TURN_S = 6.0, 120.0
#: The learning curve is read when a segment has ended, and at least this often (seconds), because
#: evaluations end later.
CURVE_S = 60.0
#: A triggerer reads what the machines of all experiments write, so no object may fill its memory.
MOST_BYTES = 16 * 1024 * 1024


class Ec2TrialTrigger(BaseTrigger):
    """Watch one trial. It fires when the worker must settle, relaunch, finish or fail the trial.

    A trial with several machines is one trigger, which watches all of them.

    `run` only reads, and copies new lines of the machine's log into the task's log. If Airflow
    moves the trigger to another triggerer, or starts it twice, lines are only logged again.
    `on_kill` acts: it ends the trial's machines.

    :param plan: the run's :class:`RunPlan` as JSON.
    :param evidence: the facts that were known when the task deferred, as JSON.
    :param told: how far the machine's log was copied before, as JSON. None means that no line
        was copied.
    :param waiter_delay: longest pause between looks, seconds.
    :param turn: how many of the run's trials look for a free place before this one. None means
        the number of trials before it in the plan.
    """

    def __init__(
        self,
        plan: dict[str, Any],
        trial: str,
        evidence: dict[str, Any],
        told: dict[str, Any] | None = None,
        waiter_delay: float = 5.0,
        aws_conn_id: str | None = None,
        turn: int | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow leaves its triggers untyped
        self.plan, self.trial, self.evidence, self.told = plan, trial, evidence, told
        self.waiter_delay, self.aws_conn_id, self.turn = waiter_delay, aws_conn_id, turn
        self._curve = LearningCurve(trial)
        self._curve_seen: tuple[int, int] | None = None
        self._curve_at = -CURVE_S
        self._heard: Heartbeat | None = None
        self._said = ""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments from which Airflow makes the trigger again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "plan": self.plan,
            "trial": self.trial,
            "evidence": self.evidence,
            "told": self.told,
            "waiter_delay": self.waiter_delay,
            "aws_conn_id": self.aws_conn_id,
            "turn": self.turn,
        }

    @classmethod
    def of(
        cls,
        plan: RunPlan,
        trial: str,
        evidence: Evidence,
        told: LogPosition | None = None,
        *,
        waiter_delay: float = 5.0,
        aws_conn_id: str | None = None,
    ) -> Self:
        """Make the trigger of a trial with as few data as it needs.

        Airflow's triggerer reads its triggers with their arguments from its database at least once
        a second. In a test on SQLite there were a thousand triggers. When each of them named the
        thousand trials of the run, such a read was nearly twice as slow.
        """
        known = evidence.without_requests().model_dump(mode="json", exclude_none=True)
        return cls(
            plan.for_trial(trial).to_xcom(),
            trial,
            known,
            told.model_dump(mode="json") if told is not None else None,
            waiter_delay,
            aws_conn_id,
            plan.trials.index(trial),
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until there is something to do, then yield one event.

        The event holds the stall clock, and how far the log was copied.
        """
        plan, evidence = (
            RunPlan.from_value(self.plan, "the run's plan"),
            Evidence.from_value(self.evidence, "the trigger's arguments"),
        )
        told = LogPosition.from_value(self.told or {}, "the trigger's arguments")
        watch = shared_watch(
            (plan.environment, plan.bucket, plan.region_name, self.aws_conn_id),
            lambda: self._watch(plan),
        )
        pause, outage = FIRST_LOOK_S, Outage("s3")
        while True:
            await asyncio.sleep(pause)
            try:
                evidence = await self._see(watch, plan, evidence, blind=outage.is_on)
            except Exception as error:  # an exception here would fail the task, but a look may fail
                self.log.warning(
                    "%s: this look failed (%s); another follows", self.trial, first_line(error)
                )
                if outage.is_over(error):
                    break
                continue
            outage.end()
            told, lines = await self._find_news(watch, plan, evidence, told)
            is_over = needs_worker(evidence)
            if lines and not is_over:
                await watch.moment_to_log()
            for line in lines:
                self.log.info("%s", line)
            if is_over:
                break
            pause = self._pause(evidence)
        progress = evidence.progress.model_dump(mode="json") if evidence.progress else None
        yield TriggerEvent(  # type: ignore[no-untyped-call]
            {
                "progress": progress,
                "told": told.model_dump(mode="json"),
                **_clocks_of_collectors(evidence),
            }
        )

    async def _find_news(
        self, watch: SharedWatch, plan: RunPlan, evidence: Evidence, told: LogPosition
    ) -> tuple[LogPosition, list[str]]:
        """Return new lines since the last look. Most looks find the same heartbeat and cost next to
        nothing.
        """
        progress = self._progress_line(evidence) if evidence.heartbeat is not self._heard else ""
        self._heard = evidence.heartbeat
        told, lines = await relay(
            watch, TrialId(plan.experiment, plan.run, self.trial), evidence, told
        )
        if progress and progress != self._said:
            self._said = progress
            lines.insert(0, progress)
        return told, lines

    async def _see(
        self, watch: SharedWatch, plan: RunPlan, evidence: Evidence, *, blind: bool = False
    ) -> Evidence:
        """Look at the machines, the heartbeats and the learning curve. If a seat waits for a free
        place, also look for one.

        :param blind: whether the looks since this evidence have failed.
        """
        trial = TrialId(plan.experiment, plan.run, self.trial)
        looks = await asyncio.gather(
            *(
                self._look(watch, trial.at_seat(seat), evidence.at_seat(seat))
                for seat in evidence.seats
            )
        )
        now, seen = datetime.now(UTC), evidence
        for seat, look in enumerate(looks):
            seen = seen.with_seat(see(evidence.at_seat(seat), look, now, blind=blind))
        if evidence.stops_early and self._is_curve_due(seen.beat):
            every_s = SHARE_OF_AGE * age_s(seen.attempts, seen.now)
            seen = seen.with_stop(await self._why_stop(watch, plan, every_s))
        waiting = [seen.at_seat(seat) for seat in seen.seats if seen.at_seat(seat).no_place]
        if waiting:
            places = await self._find_places(watch, plan, waiting)
            for one, has_place in zip(waiting, places, strict=True):
                seen = seen.with_seat(one.with_no_place(not has_place))
        return seen

    async def _look(self, watch: SharedWatch, trial: TrialId, evidence: Evidence) -> Sighting:
        """Look at one machine. What a machine wrote that only collects does not count after it."""
        wanted = self._wanted(evidence)
        if wanted.instance_id is None and trial.seat != LEARNER_SEAT:
            return Sighting(None, None)
        return await watch.look(trial, wanted)

    async def _why_stop(self, watch: SharedWatch, plan: RunPlan, every_s: float = 0.0) -> str:
        """Return why the training can stop; empty if it must go on.

        All trials of the run share the reads of the spec and the LIST. Each trial reads its own new
        shards.

        :param every_s: the greatest age of the LIST, seconds. It is limited to SHARED_S…CURVE_S.
        """
        try:
            self._curve.spec = await watch.read_once(
                plan.spec.key, plan.get_spec, every_s=FORGOTTEN_S
            )
            shards = (
                {}
                if self._curve.is_replay
                else await watch.read_once(
                    f"curves of {plan.experiment}/{plan.run}",
                    lambda store: find_shards(store, plan),
                    every_s=min(CURVE_S, max(SHARED_S, every_s)),
                )
            )
        except Exception as error:  # the trial continues to train, even if its curve has any error
            self._curve.log_unreadable(error)
            return ""
        mine = shards.get(self.trial, {})
        known = self._curve.find_answer(mine)
        return (
            known
            if known is not None
            else await watch.read(lambda store: self._curve.why_stop(store, plan, mine))
        )

    def _is_curve_due(self, beat: Heartbeat | None) -> bool:
        seen, now = (beat.attempt, beat.segment) if beat is not None else None, time.monotonic()
        if (
            seen == self._curve_seen
            and now - self._curve_at < CURVE_S
            and not self._curve.is_replay
        ):
            return False
        self._curve_seen, self._curve_at = seen, now
        return True

    async def _find_places(
        self, watch: SharedWatch, plan: RunPlan, waiting: Sequence[Evidence]
    ) -> list[bool]:
        """Whether a machine of the run has ended, so that a seat's machine can be requested.

        Waiting trials look one after another, in the plan's order. Otherwise a hundred workers
        could start for one free place. A trial whose learner works does not wait for its turn,
        because its looks must go on.
        """
        if plan.ledger_key is None:
            return [True for _ in waiting]
        if waiting[0].seat == LEARNER_SEAT:
            turn = self.turn if self.turn is not None else plan.trials.index(self.trial)
            await asyncio.sleep(min(MOST_TURN_S, TURN_S * turn))
        ledger, trial = (
            await watch.read_ledger(plan.ledger_key),
            TrialId(plan.experiment, plan.run, self.trial),
        )
        return [
            ledger is None
            or ledger.has_place(
                trial.at_seat(one.seat).seat_name, one.compute.max_parallel, one.now
            )
            for one in waiting
        ]

    async def on_kill(self) -> None:
        """End the trial's machines and free their places.

        Airflow calls this when a person marks the deferred task as failed, or clears it.
        """
        await asyncio.to_thread(self._drop, RunPlan.from_value(self.plan, "the run's plan"))

    def _watch(self, plan: RunPlan) -> TrialWatch:
        session = plan.session("launcher", self.aws_conn_id).hurry()
        store = S3Store(session.client("s3"), plan.bucket, most_bytes=MOST_BYTES)
        return TrialWatch(store, Machines(session.client("ec2"), plan.environment))

    @staticmethod
    def _wanted(evidence: Evidence) -> Wanted:
        """Return the open attempt's machine. An older machine's heartbeat is read less often."""
        newest = evidence.newest
        if newest is None or newest.outcome.end is not None:
            return Wanted(None)
        refresh_s = SHARE_OF_AGE * age_s((newest,), datetime.now(UTC))
        if evidence.seat != LEARNER_SEAT:
            refresh_s = max(COLLECTOR_REFRESH_S, refresh_s)
        return Wanted(newest.outcome.instance_id, min(REFRESH_MOST_S, refresh_s))

    def _drop(self, plan: RunPlan) -> None:
        evidence = Evidence.from_value(self.evidence, "the trigger's arguments")
        last = [len(evidence.at_seat(seat).attempts) for seat in evidence.seats]
        if not any(last):
            return
        session = plan.session("launcher", self.aws_conn_id).hurry()
        # First end the machines, which cost money: the triggerer waits only a short time for this.
        Machines(session.client("ec2"), plan.environment).terminate_attempts(
            TrialId(plan.experiment, plan.run, self.trial), last
        )
        make_supervisor(plan, session, self.trial, log).drop(last, ENDED_BY_HAND)

    def _pause(self, evidence: Evidence) -> float:
        beat = evidence.beat
        pause = SHARE_OF_AGE * age_s(evidence.attempts[-1:], evidence.now)
        if beat is not None and beat.state in LAST_WORDS:
            pause = 1.0  # it ends within seconds
        elif beat is not None and beat.steps_per_s > 0:
            pause = min(pause, (beat.total_timesteps - beat.step) / beat.steps_per_s)
        return until_next(min(self.waiter_delay, max(1.0, pause)), time.time())

    def _progress_line(self, evidence: Evidence) -> str:
        beat, newest = evidence.beat, evidence.newest
        if beat is None or newest is None or newest.outcome.launched_at is None:
            return ""
        usd = sum(usd_so_far(evidence.at_seat(seat).newest, beat.at) for seat in evidence.seats)
        return describe_progress(self.trial, beat, usd=usd)


def _clocks_of_collectors(evidence: Evidence) -> dict[str, list[dict[str, Any] | None]]:
    """Return the stall clocks of the machines that only collect, as a part of the event."""
    if not evidence.collectors:
        return {}
    clocks = [one.progress for one in evidence.collectors]
    return {"collectors": [one.model_dump(mode="json") if one else None for one in clocks]}


def usd_so_far(attempt: Attempt | None, now: datetime) -> float:
    """Estimate what the machine of an open attempt has cost, US dollars."""
    outcome = attempt.outcome if attempt is not None else None
    if attempt is None or outcome is None or outcome.launched_at is None or outcome.end:
        return 0.0
    usd_per_hour = (
        table_usd(outcome.instance_type or "", outcome.market or "on-demand")
        or attempt.reserved_usd_per_hour
    )
    return max(0.0, (now - outcome.launched_at).total_seconds()) * usd_per_hour / 3600


def age_s(attempts: Sequence[Attempt], now: datetime) -> float:
    """Return the age of the first attempt, seconds; zero if there is none."""
    return (now - attempts[0].created_at).total_seconds() if attempts else 0.0


def see(before: Evidence, look: Sighting, now: datetime, *, blind: bool = False) -> Evidence:
    """Add a look to the evidence: new values replace old ones, and the stall clock continues.

    :param blind: whether the looks between failed. Then the time between does not count: perhaps
        the machine could not reach AWS either.
    """
    progress: StepProgress | None = before.progress
    newest = before.newest
    if blind and newest is not None:
        progress = excuse(progress, newest.attempt, before.now, now)
    beat: Heartbeat | None = look.heartbeat or before.heartbeat
    progress = track_progress(progress, beat, now, before.committed_step)
    return before.seen(now, look.machine or before.machine, beat, progress)
