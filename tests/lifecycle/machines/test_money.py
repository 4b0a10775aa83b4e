"""Prices, and the ledger that reserves money before a launch and settles it afterwards."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lifecycle.errors import BudgetExceededError, LaunchRefusedError, NoPlaceError
from rl_lifecycle.machines.auto_types import AUTO_TYPES
from rl_lifecycle.machines.ledger import PLACE_GRACE, Ledger, sum_month
from rl_lifecycle.machines.prices import (
    BILLED_AT_LEAST_S,
    FALL_BACK,
    cost_usd,
    highest_on_demand_usd,
    table_usd,
)


def ledger(budget_usd: float = 1.0) -> Ledger:
    """An empty ledger."""
    return Ledger(experiment="cartpole", run="r1", month="2026-11", budget_usd=budget_usd)


def test_what_is_reserved_is_the_highest_on_demand_price_of_the_pools() -> None:
    """The highest on-demand price is reserved, because EC2 may launch any of the pools."""
    assert highest_on_demand_usd(["c6i.large", "g5.xlarge"]) == 1.006
    assert highest_on_demand_usd(["c6i.large"], {"c6i.large": 0.2}) == 0.2


def test_a_type_without_a_price_is_refused_with_the_fix() -> None:
    """A type without a price is refused, because its cost cannot be limited."""
    with pytest.raises(LaunchRefusedError, match=r"no price is known for x9\.huge.*choose"):
        highest_on_demand_usd(["c6i.large", "x9.huge"])


def test_the_table_prices_every_type_that_auto_means_and_spot_below_on_demand() -> None:
    """Every type of `auto` has prices, and its spot price is below on-demand."""
    assert set(AUTO_TYPES) <= set(FALL_BACK)
    assert all(0 < price.spot < price.on_demand for price in FALL_BACK.values())


def test_the_table_says_nothing_of_a_type_that_is_not_in_it() -> None:
    """A type that is not in the table has no price."""
    assert table_usd("c6i.large", "spot") == FALL_BACK["c6i.large"].spot
    assert table_usd("c6i.large", "on-demand") == FALL_BACK["c6i.large"].on_demand
    assert table_usd("x9.huge", "on-demand") is None


def test_a_minute_is_the_least_that_is_billed() -> None:
    """EC2 bills at least one minute, then by the second."""
    assert cost_usd(1, 60.0) == cost_usd(BILLED_AT_LEAST_S, 60.0) == 1.0
    assert cost_usd(7200, 60.0) == 120.0


def test_a_reservation_that_does_not_fit_is_refused_with_the_fix() -> None:
    """A reservation above the budget is refused and changes nothing."""
    with pytest.raises(
        BudgetExceededError, match=r"USD 0\.3 are left of compute\.budget_usd 1; raise the budget"
    ):
        ledger().reserve("seed-0", 1, 0.7).reserve("seed-1", 1, 0.4)


def test_reserving_twice_is_reserving_once() -> None:
    """A launch that is repeated after a kill reserves its money once."""
    once = ledger().reserve("seed-0", 1, 0.7)
    assert once.reserve("seed-0", 1, 0.7) is once


def test_settling_gives_back_what_was_not_spent() -> None:
    """Settling frees the unspent money, and settling again changes nothing."""
    settled = (
        ledger()
        .reserve("seed-0", 1, 0.7)
        .settle("seed-0", 1, usd=0.1, seconds=100, instance_type="c6i.large", market="spot")
    )
    assert settled.committed_usd == pytest.approx(0.1)
    assert settled.settle("seed-0", 1, usd=5.0, seconds=1) == settled


def test_a_machine_without_a_reservation_is_recorded_too() -> None:
    """The ledger records it, even if that exceeds the budget."""
    assert ledger().settle("seed-0", 1, usd=0.2, seconds=10).spent_usd == 0.2


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 4), st.floats(0, 1), st.floats(0, 1)),
        max_size=30,
    )
)
def test_the_ledger_never_commits_more_than_the_budget(
    moves: list[tuple[int, int, float, float]],
) -> None:
    """In any order of reservations and settlements, committed money stays within the budget."""
    books = ledger(1.0)
    for trial, attempt, usd, share in moves:
        try:
            books = books.reserve(f"seed-{trial}", attempt, usd)
        except BudgetExceededError:
            continue
        entry = books.find(f"seed-{trial}", attempt)
        assert entry is not None
        if share < 0.5:
            books = books.settle(
                f"seed-{trial}", attempt, usd=entry.reserved_usd * share, seconds=60
            )
        assert books.committed_usd <= books.budget_usd + 1e-6
        assert Ledger.from_json(books.to_json()) == books


def test_only_so_many_machines_of_a_run_are_at_work() -> None:
    """A settled machine frees its place; a trial's own reservation does not block it."""
    books = ledger().reserve("seed-0", 1, 0.1, most=2).reserve("seed-1", 1, 0.1, most=2)
    with pytest.raises(
        NoPlaceError, match=r"2 machines of this run are at work \(compute\.max_parallel 2\)"
    ):
        books.reserve("seed-2", 1, 0.1, most=2)
    assert books.reserve("seed-1", 1, 0.1, most=2) is books
    assert (
        books.settle("seed-0", 1, usd=0.01, seconds=60)
        .reserve("seed-2", 1, 0.1, most=2)
        .has_place("seed-1", 2)
    )


def test_an_unsettled_machine_frees_its_place_after_its_deadline() -> None:
    """The place is free because the machine has ended, and its money stays reserved.

    Older ledgers have no deadline.
    """
    deadline = datetime(2026, 11, 22, 6, tzinfo=UTC)
    books = ledger().reserve("seed-0", 1, 0.1, most=1, deadline_at=deadline)
    late, later = deadline + PLACE_GRACE, deadline + PLACE_GRACE + timedelta(seconds=1)
    with pytest.raises(NoPlaceError):
        books.reserve("seed-1", 1, 0.1, most=1, now=late)
    assert books.reserve("seed-1", 1, 0.1, most=1, now=later).committed_usd == pytest.approx(0.2)
    old = Ledger.from_json(
        ledger().reserve("seed-0", 1, 0.1).to_json().replace(b'"deadline_at":null,', b"")
    )
    assert not old.has_place("seed-1", 1, later)


def test_money_for_a_machine_that_was_never_requested_is_freed() -> None:
    """The money returns if the trial is cancelled after its worker died between two writes."""
    books = ledger().reserve("seed-0", 1, 0.1).reserve("seed-1", 1, 0.1)
    assert [entry.trial for entry in books.release("seed-0", 0).entries] == ["seed-1"]
    assert books.release("seed-0", 1) is books


def test_a_month_is_the_sum_of_its_runs_and_what_each_champion_cost() -> None:
    """A month adds up its runs; a champion's price includes nights without a promotion."""
    bought = (
        ledger().settle("seed-0", 1, usd=0.2, seconds=60).model_copy(update={"promoted_version": 1})
    )
    nothing = ledger().settle("seed-0", 1, usd=0.3, seconds=60).model_copy(update={"run": "r2"})
    other = (
        ledger().settle("seed-0", 1, usd=9.0, seconds=60).model_copy(update={"month": "2026-10"})
    )
    total = sum_month("2026-11", [bought, nothing, other])
    assert (total.n_runs, total.champions) == (2, 1)
    assert total.usd == total.usd_per_champion == pytest.approx(0.5)
    assert sum_month("2026-09", []).usd_per_champion is None


def test_evaluations_share_the_budget_with_the_machines() -> None:
    """Their reservation leaves less for machines, and needs what the machines leave."""
    books = ledger().reserve_evaluation(0.4)
    assert books.committed_usd == pytest.approx(0.4)
    with pytest.raises(BudgetExceededError, match="the next machine may cost"):
        books.reserve("seed-0", 1, 0.7)
    with pytest.raises(
        BudgetExceededError, match=r"the evaluations of this run may cost .*lower evaluation\.max_"
    ):
        ledger().reserve("seed-0", 1, 0.7).reserve_evaluation(0.4)


def test_reserving_evaluations_again_keeps_the_larger_amount() -> None:
    """A task that asks for less changes nothing; more is reserved in place of it, not on top."""
    books = ledger().reserve_evaluation(0.4)
    assert books.reserve_evaluation(0.3) is books
    assert books.reserve_evaluation(0.9).committed_usd == pytest.approx(0.9)


def test_settled_evaluations_give_back_what_they_did_not_cost() -> None:
    """Further requests reserve again, and a later settlement counts all of them."""
    books = ledger().reserve_evaluation(0.4).with_calls(1, 2.5).settle_evaluation(0.01, 5, 50.0)
    assert books.committed_usd == books.spent_usd == pytest.approx(0.01)
    again = books.reserve_evaluation(0.2)
    assert (again.committed_usd, again.spent_usd) == (pytest.approx(0.2), 0.0)
    assert again.evaluation is not None
    assert (again.evaluation.calls, again.evaluation.call_seconds) == (1, 2.5)
    assert again.settle_evaluation(0.02, 9, 90.0).spent_usd == pytest.approx(0.02)


def test_evaluations_take_no_machines_place() -> None:
    """Only machines count against `max_parallel`."""
    books = ledger().reserve_evaluation(0.4)
    assert books.has_place("seed-0", 1)
    assert sum_month("2026-11", [books.settle_evaluation(0.03, 1, 1.0)]).usd == pytest.approx(0.03)


def test_a_ledger_without_evaluations_can_be_read() -> None:
    """Ledgers of the version before have no evaluations."""
    old = ledger().to_json().replace(b'"evaluation":null,', b"")
    assert Ledger.from_json(old) == ledger()
