"""One trial brought forward: launched once, adopted, relaunched, settled, paid for, cancelled."""

import contextlib
from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

from rl_airflow.machines.market_prices import MarketPrices
from rl_lifecycle.errors import BudgetExceededError, LaunchRefusedError
from rl_lifecycle.machines.attempts import Attempt, AttemptEnd
from rl_lifecycle.machines.auto_types import AUTO_TYPES
from rl_lifecycle.machines.launches import processor_of
from rl_lifecycle.machines.prices import FALL_BACK
from rl_lifecycle.trials.actions import ActionKind
from rl_lifecycle.trials.states import TrialState
from tests.plugins.fake_ec2 import error
from tests.plugins.worlds import World


@pytest.fixture
def world() -> World:
    """A world without events."""
    return World()


def test_the_attempt_is_written_before_the_machine_is_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the very request and token that are then used."""
    seen = []

    def create_fleet(**request: object) -> dict[str, object]:
        written = world.supervisor().attempts.read()[-1].attempt
        seen.append({**written.request, "ClientToken": written.token} == request)
        return {"Instances": [], "Errors": []}

    monkeypatch.setattr(world.ec2, "create_fleet", create_fleet)
    world.look()
    assert seen == [True]


def test_a_second_worker_adopts_what_the_first_launched(world: World) -> None:
    """A retry, a clear, a double trigger: the same machine."""
    world.look()
    before = world.machines_of()
    world.look()
    assert world.machines_of() == before
    assert len(before) == 1


def test_a_machine_whose_launch_was_never_recorded_is_adopted_by_its_tags(world: World) -> None:
    """The worker died after the call; EC2's answer was lost."""
    world.look()
    stored = world.supervisor().attempts.read()[0]
    world.supervisor().attempts.update(stored, lambda outcome: type(outcome)())
    world.ec2._answers.clear()  # and the token has expired
    _, evidence = world.look()
    assert evidence.newest is not None
    assert [evidence.newest.outcome.instance_id] == world.machines_of(alive=False)


def test_an_unanswered_request_is_repeated_with_the_same_token(world: World) -> None:
    """EC2 answers as before, also while it does not show the machine yet."""
    world.ec2.hide_new = True
    world.ec2.lose_answers = True
    with pytest.raises(ConnectionError):
        world.look()
    world.ec2.lose_answers = False
    action, _ = world.look()
    assert (len(world.ec2.machines), action.finding.state) == (1, TrialState.LAUNCHING)


def test_refused_capacity_is_waited_out_with_a_fresh_token_each_time(world: World) -> None:
    """And the refused pools are named."""
    world.ec2.refuse = lambda *_: "InsufficientInstanceCapacity"
    action, evidence = world.look()
    assert (action.kind, action.finding.state) == (ActionKind.WAIT, TrialState.WAITING_FOR_CAPACITY)
    assert "c7i.large in eu-west-1a" in action.finding.reason
    world.look()
    assert world.ec2.calls.count("CreateFleet") == 1  # not before the back-off is over
    world.ec2.refuse = lambda *_: None
    assert action.at is not None
    world.time = action.at
    action, evidence = world.look()
    assert action.finding.state is TrialState.LAUNCHING
    assert len({attempt.token for attempt in evidence.attempts}) == 2


def test_spot_that_stays_refused_becomes_on_demand(world: World) -> None:
    """After as many attempts as the experiment says: three."""
    world.ec2.refuse = lambda _type, _zone, market: (
        "InsufficientInstanceCapacity" if market == "spot" else None
    )
    for _ in range(4):
        world.look()
        world.pass_time(1000)
    assert [machine.market for machine in world.ec2.living] == ["on-demand"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("InvalidLaunchTemplateId.NotFound", "does not exist"),
        ("InvalidAMIID.NotFound", "does not exist"),
        ("UnauthorizedOperation", "You are not authorized"),
        ("IdempotentParameterMismatch", "other parameters"),
    ],
)
def test_a_request_that_aws_refuses_ends_the_trial_with_its_words(
    world: World, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    """Asking again would be refused again."""

    def refuse(**_: object) -> object:
        raise error(code, message, "CreateFleet")

    monkeypatch.setattr(world.ec2, "create_fleet", refuse)
    action, evidence = world.look()
    assert action.kind is ActionKind.FAIL
    assert code in action.finding.reason
    assert message in action.finding.reason
    assert evidence.attempts[0].outcome.end is AttemptEnd.REFUSED


def test_a_used_up_quota_is_waited_for_and_explained(world: World) -> None:
    """Other trials may end."""
    world.ec2.refuse = lambda *_: "VcpuLimitExceeded"
    action, _ = world.look()
    assert action.finding.state is TrialState.WAITING_FOR_CAPACITY
    assert "Service Quotas" in action.finding.reason


def test_an_interrupted_trial_gets_another_machine_of_the_same_generation(world: World) -> None:
    """It resumes there, and gives the same parameters."""
    world.look()
    world.pass_time(120)
    world.commit(40_960)
    world.beat("interrupted", 45_000, message="notice")
    world.ec2.end(world.machines_of()[0], "Server.SpotInstanceTermination")
    _, evidence = world.look()
    first, second = evidence.attempts
    assert (first.outcome.end, first.outcome.committed_step, first.outcome.reached_step) == (
        AttemptEnd.INTERRUPTED,
        40_960,
        45_000,
    )
    assert second.outcome.instance_type == first.outcome.instance_type
    assert {
        override["InstanceType"]
        for override in second.request["LaunchTemplateConfigs"][0]["Overrides"]
    } == {  # type: ignore[index,call-overload]
        name
        for name in AUTO_TYPES
        if processor_of(name) == processor_of(str(first.outcome.instance_type))
    }


def test_a_hung_machine_is_ended_before_another_is_asked_for(world: World) -> None:
    """At most one machine works on a trial."""
    world.look()
    world.beat(step=5000)
    world.look()
    world.pass_time(1200)
    world.look()
    assert len(world.machines_of()) == 1
    assert len(world.machines_of(alive=False)) == 2


def test_failing_code_ends_the_trial_and_the_machine(world: World) -> None:
    """Another machine would fail alike."""
    world.look()
    world.beat("failed", cause="code", message="ValueError: boom")
    world.pass_time(60)
    action, evidence = world.look()
    assert (action.kind, evidence.attempts[-1].outcome.end) == (
        ActionKind.FAIL,
        AttemptEnd.CODE_FAILED,
    )
    assert "ValueError: boom" in action.finding.reason
    assert world.ec2.living == []


def test_a_person_who_asks_again_gets_one_more_attempt(world: World) -> None:
    """A clear of a failed trial resumes it."""
    world.look()
    world.beat("failed", cause="code", message="boom")
    world.pass_time(60)
    world.look()
    action, evidence = world.supervisor().advance(again=True)
    assert (action.finding.state, len(evidence.attempts)) == (TrialState.LAUNCHING, 2)


def test_asking_again_for_a_finished_trial_launches_nothing(world: World) -> None:
    """Clearing what is trained costs nothing."""
    world.look()
    world.finish()
    world.look()
    action, _ = world.supervisor().advance(again=True)
    assert action.kind is ActionKind.FINISH
    assert len(world.ec2.machines) == 1


def test_money_is_reserved_before_and_settled_after(world: World) -> None:
    """The dearest on-demand price for the hours allowed; then the seconds and the price of the pool
    that ran.
    """
    world.look()
    books = world.supervisor().ledger.read()
    assert books.committed_usd == pytest.approx(
        4
        * max(
            FALL_BACK[name].on_demand
            for name in ("c7i.large", "c7a.large", "c6i.large", "m7i.large")
        )
    )
    world.pass_time(1800)
    world.finish()
    world.look()
    books = world.supervisor().ledger.read()
    assert books.spent_usd == books.committed_usd == pytest.approx(0.036 * 0.5)
    assert (books.entries[0].seconds, books.entries[0].market) == (1800.0, "spot")


def test_a_budget_that_does_not_suffice_refuses_the_launch() -> None:
    """Before the attempt is written, and with the fix."""
    world = World(compute={"budget_usd": 0.1, "max_hours": 4})
    with pytest.raises(BudgetExceededError, match=r"compute\.budget_usd 0\.1"):
        world.look()
    assert world.supervisor().attempts.read() == ()
    assert "CreateFleet" not in world.ec2.calls


def test_trials_share_one_budget() -> None:
    """The second trial is refused when the first has reserved what is there."""
    world = World(compute={"budget_usd": 0.5, "max_hours": 4})
    world.look("seed-0")
    with pytest.raises(BudgetExceededError):
        world.look("seed-1")
    assert len(world.ec2.machines) == 1


def test_no_zone_with_the_type_is_refused_before_anything_is_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bad input costs nothing."""
    monkeypatch.setattr(
        world.ec2, "describe_instance_type_offerings", lambda **_: {"InstanceTypeOfferings": []}
    )
    with pytest.raises(LaunchRefusedError, match="choose other"):
        world.look()
    assert world.supervisor().attempts.read() == ()


def test_cancelling_ends_the_machine_and_closes_the_attempt(world: World) -> None:
    """And repeating it is harmless."""
    world.look()
    world.beat()
    for _ in range(2):
        world.supervisor().cancel("the task was killed")
    action, evidence = world.look()
    assert (action.kind, action.finding.state) == (ActionKind.FAIL, TrialState.CANCELLED)
    assert evidence.attempts[-1].outcome.end is AttemptEnd.CANCELLED
    assert world.ec2.living == []


def test_cancelling_what_is_trained_leaves_it_trained(world: World) -> None:
    """The teardown runs after every run, also a good one."""
    world.look()
    world.finish()
    world.supervisor().cancel("the run ended")
    assert world.look()[0].kind is ActionKind.FINISH


def test_a_machine_that_a_dead_workers_late_call_brought_is_ended(world: World) -> None:
    """The attempt was closed while the call was on its way: the machine is nobody's."""
    world.look()
    late = world.supervisor().attempts.read()[0].attempt
    world.supervisor().cancel("killed")
    world.ec2._answers.clear()
    world.ec2.create_fleet(**late.request, ClientToken=late.token)
    assert len(world.machines_of()) == 1
    world.supervisor().advance(again=True)
    assert len(world.machines_of()) == 1
    assert [machine.tags["nightshift:attempt"] for machine in world.ec2.living] == ["2"]


def test_two_workers_at_once_launch_one_machine(world: World) -> None:
    """Each looks before either has written."""
    one, other = world.supervisor(), world.supervisor()
    evidence, _ = one.observe()
    one._launch(evidence)
    other._launch(evidence)
    stored = one.attempts.read()
    one.requester.ask(stored[0], just_written=True)
    other.requester.ask(stored[0])
    assert len(world.ec2.machines) == 1
    assert len(world.supervisor().ledger.read().entries) == 1


def test_the_last_word_is_waited_for_but_not_for_ever(world: World) -> None:
    """A machine that said it failed uploads its log; one that hangs after that is ended."""
    world.look()
    world.beat("failed", cause="code", message="boom")
    assert world.look()[0].kind is ActionKind.WAIT
    world.pass_time(timedelta(seconds=30).total_seconds())
    assert world.look()[0].kind is ActionKind.FAIL


@pytest.mark.parametrize(
    ("market", "listed", "history", "price"),
    [
        ("spot", 9.0, True, 0.036),
        ("spot", 9.0, False, 9.0),
        ("on-demand", 9.0, True, 9.0),
        ("on-demand", None, True, 10.0),
    ],
)
def test_a_machine_whose_type_is_in_no_table_is_never_free(
    monkeypatch: pytest.MonkeyPatch, market: str, listed: float | None, history: bool, price: float
) -> None:
    """Spot history, price list, else what was reserved for an hour."""
    world, asked = (
        World(compute={"instance_types": ["x9.large"], "market": market, "budget_usd": 100}),
        [10.0],
    )
    monkeypatch.setattr(
        MarketPrices, "on_demand", lambda *_: {"x9.large": asked[0]} if asked[0] else None
    )
    world.look()
    asked[0] = listed
    if not history:
        monkeypatch.setattr(
            world.ec2, "describe_spot_price_history", lambda **_: {"SpotPriceHistory": []}
        )
    world.pass_time(3600)
    world.finish()
    _, evidence = world.look()
    assert evidence.attempts[0].outcome.usd_per_hour == pytest.approx(price)
    assert world.supervisor().ledger.read().spent_usd == pytest.approx(price)


def test_a_machine_whose_launch_was_never_recorded_is_paid_as_what_it_is(world: World) -> None:
    """It trained and ended before anybody looked: spot's price, not on-demand's."""
    world.look()
    stored = world.supervisor().attempts.read()[0]
    world.supervisor().attempts.update(stored, lambda outcome: type(outcome)())
    world.pass_time(3600)
    world.finish()
    _, evidence = world.look()
    outcome = evidence.attempts[0].outcome
    assert (outcome.market, outcome.usd_per_hour) == ("spot", 0.036)


def test_a_machine_whose_launch_was_never_recorded_is_adopted_after_it_spoke_and_nothing_is_asked_for(
    world: World,
) -> None:
    """Its heartbeat came before the worker's retry; the token may have expired by now."""
    world.look()
    stored = world.supervisor().attempts.read()[0]
    world.supervisor().attempts.update(stored, lambda outcome: type(outcome)())
    world.ec2._answers.clear()
    world.pass_time(3000)
    world.beat(step=5000)
    calls = world.ec2.calls.count("CreateFleet")
    _, evidence = world.look()
    assert [evidence.attempts[0].outcome.instance_id] == world.machines_of()
    assert world.ec2.calls.count("CreateFleet") == calls


@pytest.mark.parametrize("answered", [False, True])
def test_a_machine_that_ec2_does_not_find_yet_is_not_taken_for_gone(
    world: World, answered: bool
) -> None:
    """It was named a moment ago: it is tried again, and if it stays so, the attempt stays open for
    whoever comes next.
    """
    world.ec2.hide_new = True
    world.look()
    if not answered:
        stored = world.supervisor().attempts.read()[0]
        world.supervisor().attempts.update(stored, lambda outcome: type(outcome)())
    world.ec2.unfound = 100
    with pytest.raises(ClientError, match="NotFound"):
        world.supervisor().drop(None, "told to stop")
    assert world.supervisor().attempts.read()[0].attempt.outcome.end is None
    world.ec2.unfound = 2
    world.supervisor().cancel("the run ended")
    assert world.ec2.living == []
    assert world.supervisor().attempts.read()[0].attempt.outcome.end is AttemptEnd.CANCELLED


@pytest.mark.parametrize(
    ("code", "end"),
    [("RequestLimitExceeded", None), ("InvalidLaunchTemplateId.NotFound", AttemptEnd.CANCELLED)],
)
def test_an_attempt_is_closed_on_a_refusal_and_not_on_an_answer_that_says_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, code: str, end: AttemptEnd | None
) -> None:
    """Its own call was never answered; a throttled question does not tell what that call made."""
    monkeypatch.setattr(
        world.ec2, "create_fleet", lambda **_: (_ for _ in ()).throw(ConnectionError("lost"))
    )
    with pytest.raises(ConnectionError):
        world.look()
    monkeypatch.setattr(
        world.ec2,
        "create_fleet",
        lambda **_: (_ for _ in ()).throw(error(code, "no", "CreateFleet")),
    )
    with contextlib.suppress(ClientError):
        world.supervisor().cancel("the run ended")
    assert world.supervisor().attempts.read()[0].attempt.outcome.end is end


def test_a_reservation_that_a_stopping_worker_gave_back_is_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looked after another worker had reserved for the next attempt, and before that was
    written.
    """
    worker, other = world.supervisor(), world.supervisor()
    create = worker.attempts.create

    def late(attempt: Attempt) -> bool:
        other.drop(None, "told to stop")
        assert other.ledger.read().entries == ()
        return create(attempt)

    monkeypatch.setattr(worker.attempts, "create", late)
    worker.advance()
    assert [(entry.attempt, entry.usd) for entry in worker.ledger.read().entries] == [(1, None)]
    assert len(world.machines_of()) == 1


def test_dropping_an_attempt_leaves_a_later_one_alone(world: World) -> None:
    """A cleared task's launch was faster than the triggerer."""
    world.look()
    world.supervisor().drop(1, "killed")
    world.look()
    assert len(world.machines_of()) == 1
    world.supervisor().drop(1, "killed")
    _, evidence = world.look()
    assert [attempt.outcome.end for attempt in evidence.attempts] == [AttemptEnd.MACHINE_LOST, None]
    assert len(world.machines_of()) == 1
