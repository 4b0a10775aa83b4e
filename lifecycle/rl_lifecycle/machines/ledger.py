"""The ledger of a run: the money that it has spent, and the money that it may still spend.

It counts the machines with their volumes and requests, and the evaluations in Lambda. What each is
billed for is computed in :mod:`rl_lifecycle.machines.billing`.

There is one record for each run, under the month in which the run began. The functions are pure: a
caller reads the record, changes it here and writes it back under If-Match. So two launches at the
same time cannot both take the last dollar. An entry belongs to (trial, attempt). To reserve or
settle the same entry again changes nothing.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal, Self

from pydantic import Field

from rl_lifecycle.errors import BudgetExceededError, EvaluationBudgetError, NoPlaceError
from rl_lifecycle.records.record import Record

#: Amounts are sums of floats, so smaller differences than this are rounding errors.
EPSILON_USD = 1e-9
#: If its deadline passed longer ago than this, a machine no longer counts as at work. It ends
#: itself at the deadline, and the reaper runs every 15 minutes.
PLACE_GRACE = timedelta(minutes=30)


class LedgerEntry(Record):
    """The money of one machine."""

    trial: str
    attempt: int = Field(ge=1)
    reserved_usd: float = Field(ge=0)
    usd: float | None = Field(
        None, description="what the machine cost; None while it may still run"
    )
    seconds: float | None = None
    instance_type: str | None = None
    market: Literal["spot", "on-demand"] | None = None
    deadline_at: datetime | None = Field(
        None, description="when the machine must have ended; None in older ledgers"
    )

    def takes_place(self, now: datetime | None) -> bool:
        """Whether the machine may be at work: not settled, and not long after its deadline.

        :param now: the current time. None means: ignore the deadline.
        """
        gone = (
            now is not None
            and self.deadline_at is not None
            and now > self.deadline_at + PLACE_GRACE
        )
        return self.usd is None and not gone


class EvaluationEntry(Record):
    """The money of a run's evaluations in Lambda."""

    reserved_usd: float = Field(0.0, ge=0)
    usd: float | None = Field(
        None, description="what they have cost so far; None while more may be requested"
    )
    invocations: int = Field(0, ge=0, description="those that `usd` counts")
    seconds: float = Field(0.0, ge=0, description="the durations of those invocations")
    calls: int = Field(0, ge=0, description="invocations without a shard")
    call_seconds: float = Field(0.0, ge=0, description="their durations together")

    @property
    def committed_usd(self) -> float:
        """The money that is spent or reserved."""
        return self.reserved_usd if self.usd is None else self.usd

    def reserved(self, usd: float) -> Self:
        """Reserve an amount, and expect further requests."""
        return self.model_copy(update={"reserved_usd": usd, "usd": None})

    def with_calls(self, calls: int, seconds: float) -> Self:
        """Count invocations that left no shard."""
        return self.model_copy(
            update={"calls": self.calls + calls, "call_seconds": self.call_seconds + seconds}
        )

    def settled(self, usd: float, invocations: int, seconds: float) -> Self:
        """Record what the evaluations have cost so far."""
        return self.model_copy(update={"usd": usd, "invocations": invocations, "seconds": seconds})


class MonthTotal(Record):
    """The cost of the runs of a month."""

    month: str
    n_runs: int
    usd: float
    champions: int = Field(description="promoted versions that these runs bought")
    by_experiment: dict[str, float]

    @property
    def usd_per_champion(self) -> float | None:
        """The money of all runs divided by the number of champions; None without a champion.

        Runs that promoted nothing count, too.
        """
        return self.usd / self.champions if self.champions else None


class Ledger(Record):
    """The money of one run."""

    schema_version: Literal[1] = 1
    experiment: str
    run: str
    month: str = Field(pattern=r"^\d{4}-\d{2}$", description="of the run's start, in UTC")
    budget_usd: float
    entries: tuple[LedgerEntry, ...] = ()
    promoted_version: int | None = Field(None, description="the champion that the money bought")
    evaluation: EvaluationEntry | None = Field(
        None, description="the evaluations; None before the first one, and in older ledgers"
    )

    @property
    def committed_usd(self) -> float:
        """The money that is spent or reserved."""
        evaluation = self.evaluation.committed_usd if self.evaluation else 0.0
        return evaluation + self._committed_by_machines

    @property
    def spent_usd(self) -> float:
        """The cost of the machines that have ended, and of the evaluations so far."""
        evaluation = (self.evaluation.usd or 0.0) if self.evaluation else 0.0
        return evaluation + sum(entry.usd or 0.0 for entry in self.entries)

    @property
    def _committed_by_machines(self) -> float:
        return sum(entry.reserved_usd if entry.usd is None else entry.usd for entry in self.entries)

    def with_champion(self, version: int) -> Self:
        """Record the version that the run promoted."""
        return self.model_copy(update={"promoted_version": version})

    def _with_entries(self, entries: tuple[LedgerEntry, ...]) -> Self:
        return self.model_copy(update={"entries": entries})

    def find(self, trial: str, attempt: int) -> LedgerEntry | None:
        """Find the entry of one machine."""
        return next(
            (entry for entry in self.entries if (entry.trial, entry.attempt) == (trial, attempt)),
            None,
        )

    def has_place(self, trial: str, most: int | None, now: datetime | None = None) -> bool:
        """Whether another machine of the run may work at the same time as the present ones.

        Reservations that are not settled count until their deadline.

        :param trial: the trial that needs the machine; its own reservation does not count.
        :param most: how many machines may work at the same time. None means any number.
        :param now: the current time. None means: ignore deadlines.
        """
        return (
            most is None
            or sum(entry.takes_place(now) and entry.trial != trial for entry in self.entries) < most
        )

    def reserve(
        self,
        trial: str,
        attempt: int,
        usd: float,
        *,
        most: int | None = None,
        deadline_at: datetime | None = None,
        now: datetime | None = None,
    ) -> Self:
        """Set money aside for a machine before it is requested.

        :param most: how many machines of the run may work at the same time. None means any number.
        :param deadline_at: when the machine must have ended.
        :param now: the current time. None means: ignore deadlines.
        :return: the unchanged ledger if the money is reserved already.
        :raises BudgetExceededError: if the amount is more than what is left.
        :raises NoPlaceError: if the run has as many machines at work as it may have.
        """
        if self.find(trial, attempt) is not None:
            return self
        if most is not None and not self.has_place(trial, most, now):
            raise NoPlaceError(most)
        left = self.budget_usd - self.committed_usd
        if usd > left + EPSILON_USD:
            raise BudgetExceededError(usd, max(0.0, left), self.budget_usd)
        entry = LedgerEntry(trial=trial, attempt=attempt, reserved_usd=usd, deadline_at=deadline_at)
        return self._with_entries((*self.entries, entry))

    def reserve_evaluation(self, usd: float) -> Self:
        """Set money aside for the evaluations of the run, before they are requested.

        :param usd: the most that all evaluations of the run may cost, with those that were settled.
        :return: the unchanged ledger if as much is reserved already.
        :raises EvaluationBudgetError: if the amount is more than what the machines leave.
        """
        entry = self.evaluation or EvaluationEntry()
        if self.evaluation is not None and usd <= entry.committed_usd + EPSILON_USD:
            return self
        left = self.budget_usd - self._committed_by_machines
        if usd > left + EPSILON_USD:
            raise EvaluationBudgetError(usd, max(0.0, left), self.budget_usd)
        return self._with_evaluation(entry.reserved(usd))

    def with_calls(self, calls: int, seconds: float) -> Self:
        """Count invocations of the evaluator that left no shard.

        A task waited for them, or they failed.

        :param seconds: their durations together.
        """
        entry = self.evaluation or EvaluationEntry()
        return self._with_evaluation(entry.with_calls(calls, seconds))

    def settle_evaluation(self, usd: float, invocations: int, seconds: float) -> Self:
        """Replace the reservation of the evaluations by what they have cost so far."""
        entry = self.evaluation or EvaluationEntry()
        return self._with_evaluation(entry.settled(usd, invocations, seconds))

    def _with_evaluation(self, evaluation: EvaluationEntry) -> Self:
        return self.model_copy(update={"evaluation": evaluation})

    def release(self, trial: str, last_attempt: int) -> Self:
        """Release reservations for machines of a trial that will never be requested.

        :param last_attempt: the last attempt that was written. Later reservations are those of a
            worker that died.
        """
        kept = tuple(
            entry
            for entry in self.entries
            if entry.trial != trial or entry.attempt <= last_attempt or entry.usd is not None
        )
        return self if kept == self.entries else self._with_entries(kept)

    def settle(
        self,
        trial: str,
        attempt: int,
        *,
        usd: float,
        seconds: float,
        instance_type: str | None = None,
        market: Literal["spot", "on-demand"] | None = None,
    ) -> Self:
        """Replace a reservation by the real cost of the machine.

        A machine without a reservation is added.
        """
        before = self.find(trial, attempt)
        if before is not None and before.usd is not None:
            return self
        entry = LedgerEntry(
            trial=trial,
            attempt=attempt,
            reserved_usd=before.reserved_usd if before else 0.0,
            usd=usd,
            seconds=seconds,
            instance_type=instance_type,
            market=market,
            deadline_at=before.deadline_at if before else None,
        )
        others = tuple(other for other in self.entries if other != before)
        return self._with_entries(
            tuple(sorted((*others, entry), key=lambda e: (e.trial, e.attempt)))
        )


def sum_month(month: str, ledgers: Iterable[Ledger]) -> MonthTotal:
    """Add up the ledgers of a month."""
    books = [ledger for ledger in ledgers if ledger.month == month]
    by_experiment: dict[str, float] = {}
    for ledger in books:
        by_experiment[ledger.experiment] = (
            by_experiment.get(ledger.experiment, 0.0) + ledger.spent_usd
        )
    return MonthTotal(
        month=month,
        n_runs=len(books),
        usd=sum(by_experiment.values()),
        champions=sum(ledger.promoted_version is not None for ledger in books),
        by_experiment=by_experiment,
    )


def describe_month(total: MonthTotal) -> str:
    """Describe the total of a month in one line for a log.

    >>> total = MonthTotal(
    ...     month="2026-11", n_runs=2, usd=0.5, champions=1, by_experiment={"cartpole": 0.5}
    ... )
    >>> describe_month(total)
    '2026-11: USD 0.5000 in 2 runs (cartpole 0.5000), 1 champion, USD 0.5000 for each'
    """
    parts = ", ".join(f"{name} {usd:.4f}" for name, usd in sorted(total.by_experiment.items()))
    champions = f"{total.champions} champion{'' if total.champions == 1 else 's'}"
    each = (
        f", USD {total.usd_per_champion:.4f} for each" if total.usd_per_champion is not None else ""
    )
    return (
        f"{total.month}: USD {total.usd:.4f} in {total.n_runs} "
        f"run{'' if total.n_runs == 1 else 's'} ({parts}), {champions}{each}"
    )
