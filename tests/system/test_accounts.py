"""A watch and a strike report what they did not see or did not hit."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from laptop import airflow
from tests.system.accounts import MOST_FAILURES, MachineWatch
from tests.system.killing import StruckRun

WORKING = {
    "InstanceId": "i-1",
    "State": {"Name": "running"},
    "tags": {"experiment": "e", "run": "r", "trial": "seed-0"},
}


class FakeAccount:
    """One machine, whose listing fails a number of times from a given look on."""

    def __init__(self, first_failure: int, failures: int) -> None:
        self.looks, self.failing = 0, range(first_failure, first_failure + failures)

    def machines(self) -> Iterator[dict[str, Any]]:
        """List the machine, or fail."""
        self.looks += 1
        if self.looks in self.failing:
            raise ConnectionError("reset by peer")
        yield WORKING


def test_a_watch_whose_looks_keep_failing_raises() -> None:
    """A watch that stopped looking raises, because it could miss two machines."""
    with (
        pytest.raises(RuntimeError, match="watch of the machines has ended") as raised,
        MachineWatch(FakeAccount(2, 10**9)) as watch,
    ):  # type: ignore[arg-type]
        assert airflow.wait_for(lambda: not watch.is_alive(), 60)
    assert isinstance(raised.value.__cause__, ConnectionError)


def test_a_look_that_fails_on_a_busy_machine_is_repeated() -> None:
    """A few failing looks in a row do not end the watch."""
    account = FakeAccount(2, MOST_FAILURES - 1)
    with MachineWatch(account) as watch:  # type: ignore[arg-type]
        assert airflow.wait_for(lambda: account.looks > MOST_FAILURES + 2, 60)
    assert watch.seen == {"i-1"}


def test_an_error_in_the_watched_block_is_raised_first() -> None:
    """The block's own error is raised, not the watch's."""
    watch = MachineWatch(FakeAccount(1, 10**9))  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError), watch:
        _fail_when_blind(watch)


def _fail_when_blind(watch: MachineWatch) -> None:
    airflow.wait_for(lambda: not watch.is_alive(), 60)
    raise ZeroDivisionError


class FakeApi:
    """A run that is over, whose task had three tries."""

    def call(self, method: str, path: str) -> dict[str, Any]:
        """Answer a GET."""
        assert method == "GET"
        if path.endswith("limit=100"):
            return {
                "task_instances": [
                    {"task_id": "await", "state": "success", "try_number": 3, "map_index": 0}
                ]
            }
        return {"content": f"this is {path.partition('/logs/')[2].partition('?')[0]}"}


def test_a_strike_that_came_too_late_is_noted_and_the_logs_of_all_tries_are_read() -> None:
    """A strike that did not hit is recorded, because it proves nothing."""
    struck = StruckRun(FakeApi(), None, "dag", "run", random.Random(0))  # type: ignore[arg-type]
    struck.strike("await", "clear")
    assert (struck.hits, struck.missed) == ([], [("await", "clear")])
    assert all(f"this is {number}" in struck.log("await") for number in (1, 2, 3))
