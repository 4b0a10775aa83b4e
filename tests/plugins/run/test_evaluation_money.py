"""The money of evaluations is reserved before they are requested, and settled from their shards."""

import pytest

from infra_bootstrap.stacks.concerns import Concern
from infra_bootstrap.stacks.template_files import template
from rl_airflow.run.evaluation_money import TRIES, EvaluationMoney, longest_episode_s
from rl_lifecycle.errors import BudgetExceededError
from rl_lifecycle.evaluation.requests import EnvironmentReport, EpisodeEnd, Shard
from rl_lifecycle.machines.billing import (
    FUNCTION_TIME_LIMIT_S,
    LONGEST_START_S,
    FunctionUse,
    bill_functions,
    total,
)
from rl_lifecycle.machines.service_prices import TABLE
from rl_lifecycle.storage.layout import shard_key
from tests.plugins.worlds import World


def money_of(world: World) -> EvaluationMoney:
    """Return a new worker's view of the money."""
    return EvaluationMoney(world.plan, world.spec, world.store, lambda: TABLE.prices)


def play(world: World, offset: int, seconds: float, name: str = "select-seed-0-100") -> None:
    """Write a shard that took so long."""
    shard = Shard(
        env_id="E",
        policy_sha256="p",
        first_seed=offset,
        returns=(1.0,),
        lengths=(1,),
        ends=(EpisodeEnd.TERMINATED,),
        steps=1,
        seconds=seconds,
    )
    world.store.put(shard_key("cartpole_ppo", world.spec.run, name, offset), shard.to_json())


def test_what_shards_and_calls_took_is_settled() -> None:
    """Each shard counts its own time and a start; each call counts the time that a task waited."""
    world = World()
    money = money_of(world)
    money.count_call(3.0)
    play(world, 0, 20.0)
    play(world, 50, 5000.0)
    money.settle()
    entry = money.ledger.read().evaluation
    assert entry is not None
    assert entry.invocations == 3
    assert entry.seconds == pytest.approx(3.0 + 20.0 + LONGEST_START_S + 900.0)
    use = FunctionUse(3, entry.seconds)
    assert entry.usd == pytest.approx(total(bill_functions(use, TABLE.prices)))
    play(world, 100, 1.0, name="gate-candidate")
    money_of(world).settle()
    later = money.ledger.read().evaluation
    assert later is not None
    assert later.invocations == 4
    assert later.usd > entry.usd  # type: ignore[operator]


def test_the_memory_of_the_deployed_function_counts() -> None:
    """Twice the memory costs twice as much."""
    world = World()
    play(world, 0, 90.0)
    usual, larger = money_of(world), money_of(world)
    larger.memory_mib = 2 * usual.memory_mib
    spent = []
    for money in (usual, larger):
        money.settle()
        spent.append(money.ledger.read().spent_usd)
    assert spent[1] == pytest.approx(2 * spent[0], rel=0.03)


def test_requests_that_the_budget_does_not_cover_are_refused() -> None:
    """What was evaluated before counts, so a run cannot go over its budget shard by shard."""
    world = World(compute={"budget_usd": 0.1})
    money = money_of(world)
    money.reserve([50] * 3, None)
    assert money.ledger.read().committed_usd == pytest.approx(3 * 0.0259, rel=0.01)
    with pytest.raises(BudgetExceededError, match="the evaluations of this run"):
        money.reserve([50] * 4, None)
    money.reserve([50] * 4, 0.01)
    for offset in (0, 50, 100):
        play(world, offset, 890.0)
    with pytest.raises(BudgetExceededError):
        money_of(world).reserve([50], None)


def test_shards_that_never_arrived_are_counted_with_every_try() -> None:
    """A function that fails writes no shard, and Lambda tries it three times."""
    world = World()
    money = money_of(world)
    money.count_lost([50, 20], 0.1)
    money.settle()
    entry = money.ledger.read().evaluation
    assert entry is not None
    assert entry.invocations == 6
    assert entry.seconds == pytest.approx(3 * (10 + 15) + 3 * (10 + 6))
    retries = template(Concern.EVALUATION)["Resources"]["EvaluatorAsync"]["Properties"]
    assert retries["MaximumRetryAttempts"] + 1 == TRIES


@pytest.mark.parametrize("data", [b"not json", b'{"schema_version": 99}', b"x" * 4_000_001])
def test_a_shard_that_cannot_be_read_counts_with_the_time_limit(
    caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    """Foreign code may write any bytes as its shard, and the run must still be settled."""
    world = World()
    world.store.put(shard_key("cartpole_ppo", world.spec.run, "select-seed-0-100", 0), data)
    money = money_of(world)
    money.settle()
    entry = money.ledger.read().evaluation
    assert entry is not None
    assert (entry.invocations, entry.seconds) == (1, FUNCTION_TIME_LIMIT_S)
    assert "it counts with a function's time limit" in caplog.text


def test_a_run_that_evaluated_nothing_has_no_entry() -> None:
    """A trial that failed before its first policy costs nothing in Lambda."""
    world = World()
    money_of(world).settle()
    assert money_of(world).ledger.read().evaluation is None


def test_the_longest_episode_follows_from_the_environments_report() -> None:
    """Without a report, or without a limit of steps, it is not known."""
    report = EnvironmentReport(max_episode_steps=500, steps_per_s=1000.0)
    assert longest_episode_s(report) == 0.5
    assert longest_episode_s(None) is None
    assert longest_episode_s(EnvironmentReport(steps_per_s=1000.0)) is None
