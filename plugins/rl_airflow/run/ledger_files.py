"""The ledger of a run in the bucket.

It changes by compare-and-swap, so that simultaneous launches share one budget.
"""

from collections.abc import Callable

from rl_lifecycle.errors import PreconditionFailedError, StoreUnavailableError
from rl_lifecycle.experiment.spec import Spec
from rl_lifecycle.machines.ledger import Ledger, MonthTotal, sum_month
from rl_lifecycle.storage.layout import ledger_key, ledger_prefix
from rl_lifecycle.storage.object_store import ObjectStore

#: The most tries of a change. A hundred trials that reserve at the same time need fewer.
MOST_TRIES = 200


class LedgerFile:
    """The money of one run."""

    def __init__(self, store: ObjectStore, spec: Spec) -> None:
        self.store = store
        self.empty = Ledger(
            experiment=spec.experiment.name,
            run=spec.run,
            month=f"{spec.created_at:%Y-%m}",
            budget_usd=spec.experiment.compute.budget_usd,
        )
        self.key = ledger_key(self.empty.month, self.empty.experiment, self.empty.run)

    def read(self) -> Ledger:
        """Read the ledger. It is empty if the run has spent nothing yet."""
        found = self.store.find(self.key)
        return Ledger.from_json(found.data, self.key) if found else self.empty

    def change(self, change: Callable[[Ledger], Ledger]) -> Ledger:
        """Apply a pure change to the stored ledger. Repeat it if another process wrote first.

        :raises BudgetExceededError: if the change does.
        """
        for _ in range(MOST_TRIES):
            found = self.store.find(self.key)
            before = Ledger.from_json(found.data, self.key) if found else self.empty
            after = change(before)
            if found is not None and after == before:
                return after
            try:
                self.store.put(
                    self.key,
                    after.to_json(),
                    if_match=found.etag if found else None,
                    if_none_match=found is None,
                )
            except PreconditionFailedError:
                continue
            return after
        raise StoreUnavailableError(
            f"{self.store.uri}/{self.key}", "other processes kept changing it; clear the task"
        )


def read_month(store: ObjectStore, month: str) -> MonthTotal:
    """Add up all runs that began in a month, `yyyy-mm`."""
    found = ((item.key, store.find(item.key)) for item in store.list(ledger_prefix(month)))
    return sum_month(
        month, [Ledger.from_json(one.data, key) for key, one in found if one is not None]
    )
