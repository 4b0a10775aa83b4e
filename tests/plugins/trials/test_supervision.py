"""The supervisor launches, adopts, relaunches, settles, pays for and cancels a trial."""

import contextlib
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rl_airflow.machines.market_prices import MarketPrices
from rl_lifecycle.errors import BudgetExceededError, LaunchRefusedError
from rl_lifecycle.machines.auto_types import AUTO_TYPES
from rl_lifecycle.machines.launch_requests import processor_of
from rl_lifecycle.machines.machine_attempts import Attempt, AttemptEnd
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
    """The stored attempt has the request and token of the call."""
    seen = []

    def create_fleet(**request: object) -> dict[str, object]:
        written = world.supervisor().attempts.read()[-1].attempt
        seen.append({**written.request, "ClientToken": written.token} == request)
        return {"Instances": [], "Errors": []}

    monkeypatch.setattr(world.ec2, "create_fleet", create_fleet)
    world.look()
    assert seen == [True]


@pytest.mark.parametrize("profile", [None, "arn:aws:iam::123456789012:instance-profile/own"])
def test_machines_have_the_profile_of_the_frozen_plan(world: World, profile: str | None) -> None:
    """Each pool of a request names the experiment's own profile, or none for the common one."""
    world.plan = world.plan.model_copy(update={"instance_profile_arn": profile})
    world.look()
    (stored,) = world.supervisor().attempts.read()
    configs: Any = stored.attempt.request["LaunchTemplateConfigs"]
    found = [override.get("IamInstanceProfile") for override in configs[0]["Overrides"]]
    assert found
    assert found == [{"Arn": profile} if profile else None] * len(found)


def test_a_second_worker_adopts_what_the_first_launched(world: World) -> None:
    """After a retry, a clear or a second trigger, the same machine works."""
    world.look()
    before = world.machines_of()
    world.look()
    assert world.machines_of() == before
    assert len(before) == 1


def test_a_machine_whose_launch_was_never_recorded_is_adopted_by_its_tags(world: World) -> None:
    """The machine is found by its tags after a crash or a lost answer."""
    world.look()
    stored = world.supervisor().attempts.read()[0]
    world.supervisor().attempts.update(stored, lambda outcome: type(outcome)())
    world.ec2._answers.clear()  # the token has expired
    _, evidence = world.look()
    assert evidence.newest is not None
    assert [evidence.newest.outcome.instance_id] == world.machines_of(alive=False)


def test_an_unanswered_request_is_repeated_with_the_same_token(world: World) -> None:
    """EC2 repeats its answer, also while it does not show the machine."""
    world.ec2.hide_new = True
    world.ec2.lose_answers = True
    with pytest.raises(ConnectionError):
        world.look()
    world.ec2.lose_answers = False
    action, _ = world.look()
    assert (len(world.ec2.machines), action.finding.state) == (1, TrialState.LAUNCHING)


def lose_a_machine(world: World) -> None:
    """Request a machine, lose EC2's answer, and let EC2 end and forget the machine."""
    world.ec2.hide_new = world.ec2.lose_answers = True
    with pytest.raises(ConnectionError):
        world.look()
    world.ec2.hide_new = world.ec2.lose_answers = False
    (machine,) = world.ec2.machines
    world.ec2.end(machine, "Server.InternalError")
    world.pass_time(600)


@pytest.mark.parametrize("answer", ["error", "list", ""])
def test_a_token_whose_machine_has_ended_leads_to_another_machine(
    world: World, answer: str
) -> None:
    """Whatever EC2 answers: the trial goes on, and the lost machine's cost is counted."""
    lose_a_machine(world)
    world.ec2.used_token = answer
    world.look()
    world.pass_time(600)
    _, evidence = world.look()
    first, second = evidence.attempts
    assert first.outcome.end is AttemptEnd.MACHINE_LOST
    assert (first.outcome.usd or 0) > 0
    assert (second.outcome.end, len(world.ec2.living)) == (None, 1)


@pytest.mark.parametrize("answer", ["error", "list", ""])
def test_a_trial_can_be_cancelled_after_its_unknown_machine_has_ended(
    world: World, answer: str
) -> None:
    """The repeated request shows that there is no machine, and makes none."""
    lose_a_machine(world)
    world.ec2.used_token = answer
    world.supervisor().cancel("the run ended")
    assert len(world.ec2.machines) == 1
    assert world.supervisor().attempts.read()[-1].attempt.outcome.end is not None


@pytest.mark.parametrize(
    ("code", "is_proof"),
    [
        ("InsufficientInstanceCapacity", True),
        ("VcpuLimitExceeded", True),
        ("InvalidLaunchTemplateId.NotFound", True),
        ("UnauthorizedOperation", False),
        ("ExpiredToken", False),
        ("InternalError", False),
        ("IdempotentParameterMismatch", False),
        ("SomethingNew", False),
    ],
)
def test_only_some_answers_prove_that_an_unanswered_request_made_no_machine(
    world: World, code: str, is_proof: bool
) -> None:
    """After any other answer the attempt stays open, so that the cancelling is repeated."""
    lose_a_machine(world)

    def refuse() -> None:
        raise error(code, "refused", "CreateFleet")

    world.ec2.during["sent"] = refuse
    if is_proof:
        world.supervisor().cancel("the run ended")
    else:
        with pytest.raises(ClientError, match=code):
            world.supervisor().cancel("the run ended")
    assert (world.supervisor().attempts.read()[-1].attempt.outcome.end is not None) == is_proof


def test_refused_capacity_is_waited_out_with_a_fresh_token_each_time(world: World) -> None:
    """Each attempt has a new token and names the refused pools."""
    world.ec2.refuse = lambda *_: "InsufficientInstanceCapacity"
    action, evidence = world.look()
    assert (action.kind, action.finding.state) == (ActionKind.WAIT, TrialState.WAITING_FOR_CAPACITY)
    assert "c7i.large in eu-west-1a" in action.finding.reason
    world.look()
    assert world.ec2.calls.count("CreateFleet") == 1  # before the end of the back-off
    world.ec2.refuse = lambda *_: None
    assert action.at is not None
    world.time = action.at
    action, evidence = world.look()
    assert action.finding.state is TrialState.LAUNCHING
    assert len({attempt.token for attempt in evidence.attempts}) == 2


def test_spot_that_stays_refused_becomes_on_demand(world: World) -> None:
    """On-demand follows after `on_demand_after` attempts, here three."""
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
def test_a_request_that_aws_refuses_ends_the_trial_with_its_message(
    world: World, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    """A request that EC2 refuses as invalid is not repeated."""

    def refuse(**_: object) -> object:
        raise error(code, message, "CreateFleet")

    monkeypatch.setattr(world.ec2, "create_fleet", refuse)
    action, evidence = world.look()
    assert action.kind is ActionKind.FAIL
    assert code in action.finding.reason
    assert message in action.finding.reason
    assert evidence.attempts[0].outcome.end is AttemptEnd.REFUSED


def test_a_used_up_quota_is_waited_for_and_explained(world: World) -> None:
    """A quota is waited for, because other trials may end."""
    world.ec2.refuse = lambda *_: "VcpuLimitExceeded"
    action, _ = world.look()
    assert action.finding.state is TrialState.WAITING_FOR_CAPACITY
    assert "Service Quotas" in action.finding.reason


def test_an_interrupted_trial_gets_another_machine_of_the_same_generation(world: World) -> None:
    """The trial resumes on the same generation, which gives the same parameters."""
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
    """The hung machine ends first, so at most one machine works on a trial."""
    world.look()
    world.beat(step=5000)
    world.look()
    world.pass_time(1200)
    world.look()
    assert len(world.machines_of()) == 1
    assert len(world.machines_of(alive=False)) == 2


def test_failing_code_ends_the_trial_and_the_machine(world: World) -> None:
    """A trainer's error ends the trial, because another machine would fail too."""
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


def test_a_cleared_failed_trial_gets_one_more_attempt(world: World) -> None:
    """A clear resumes a failed trial with one more attempt."""
    world.look()
    world.beat("failed", cause="code", message="boom")
    world.pass_time(60)
    world.look()
    action, evidence = world.supervisor().advance(again=True)
    assert (action.finding.state, len(evidence.attempts)) == (TrialState.LAUNCHING, 2)


def test_a_cleared_finished_trial_launches_nothing(world: World) -> None:
    """A clear of a trained trial costs nothing."""
    world.look()
    world.finish()
    world.look()
    action, _ = world.supervisor().advance(again=True)
    assert action.kind is ActionKind.FINISH
    assert len(world.ec2.machines) == 1


def test_money_is_reserved_before_and_settled_after(world: World) -> None:
    """The highest on-demand price is reserved; seconds and price of the real pool are settled.

    Volume, requests and evaluations are reserved, too, and those of the machine are settled.
    """
    world.look()
    books = world.supervisor().ledger.read()
    instance_usd = 4 * max(
        FALL_BACK[name].on_demand for name in ("c7i.large", "c7a.large", "c6i.large", "m7i.large")
    )
    volume_usd = 4 * 100 * 0.08 / (30 * 24)
    machine_usd = books.entries[0].reserved_usd
    assert instance_usd + volume_usd < machine_usd < instance_usd + volume_usd + 0.03
    assert books.evaluation is not None
    assert 0 < books.evaluation.reserved_usd < 0.1
    assert books.committed_usd == machine_usd + books.evaluation.reserved_usd
    (stored,) = world.supervisor().attempts.read()
    assert stored.attempt.volume_gib == 100
    assert stored.attempt.reserved_usd_per_hour == pytest.approx(instance_usd / 4)
    world.pass_time(1800)
    world.finish()
    world.look()
    books = world.supervisor().ledger.read()
    outcome = world.supervisor().attempts.read()[0].attempt.outcome
    assert outcome.usd is not None
    assert outcome.services_usd is not None
    assert outcome.usd - outcome.services_usd == pytest.approx(0.036 * 0.5)
    assert volume_usd / 8 < outcome.services_usd < volume_usd / 8 + 0.01
    assert books.spent_usd == outcome.usd
    assert (books.entries[0].seconds, books.entries[0].market) == (1800.0, "spot")


def test_the_first_machine_of_a_run_reserves_the_evaluations_once(world: World) -> None:
    """The second trial's machine, and a machine after an interruption, reserve themselves only."""
    world.look("seed-0")
    first = world.supervisor().ledger.read().evaluation
    world.look("seed-1")
    assert first is not None
    assert world.supervisor().ledger.read().evaluation == first


def test_evaluations_that_the_budget_does_not_cover_refuse_the_launch() -> None:
    """Without a known speed each invocation may take as long as the function may."""
    world = World(compute={"budget_usd": 1, "max_hours": 4})
    with pytest.raises(
        BudgetExceededError, match=r"evaluations of this run may cost up to.*lower evaluation\.max_"
    ):
        world.supervisor(episode_s=None).advance()
    assert "CreateFleet" not in world.ec2.calls
    world.look()
    assert "CreateFleet" in world.ec2.calls


def test_a_run_of_the_version_before_goes_on_without_a_reservation_of_evaluations() -> None:
    """Its budget was planned for machines alone, so a relaunch is not refused."""
    world = World(compute={"budget_usd": 1.0, "max_hours": 1, "on_demand_after": 0})
    world.look()
    books = world.supervisor().ledger
    books.change(lambda before: before.model_copy(update={"evaluation": None}))
    world.look("seed-1")
    assert books.read().evaluation is None


def test_a_volume_without_a_known_price_refuses_the_launch(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launch template that somebody changed by hand cannot exceed the reservation."""
    describe = world.ec2.describe_launch_template_versions

    def faster(**request: Any) -> Any:
        answer = describe(**request)
        mappings = answer["LaunchTemplateVersions"][0]["LaunchTemplateData"]["BlockDeviceMappings"]
        mappings[0]["Ebs"]["Iops"] = 8000
        return answer

    monkeypatch.setattr(world.ec2, "describe_launch_template_versions", faster)
    with pytest.raises(LaunchRefusedError, match="a volume whose price is not known"):
        world.look()
    assert "CreateFleet" not in world.ec2.calls


def test_a_budget_that_does_not_suffice_refuses_the_launch() -> None:
    """The launch is refused before the attempt is written, and the error names the fix."""
    world = World(compute={"budget_usd": 0.1, "max_hours": 4})
    with pytest.raises(BudgetExceededError, match=r"compute\.budget_usd 0\.1"):
        world.look()
    assert world.supervisor().attempts.read() == ()
    assert "CreateFleet" not in world.ec2.calls


def test_trials_share_one_budget() -> None:
    """The second trial is refused if the first has reserved the budget."""
    world = World(compute={"budget_usd": 0.6, "max_hours": 4})
    world.look("seed-0")
    with pytest.raises(BudgetExceededError):
        world.look("seed-1")
    assert len(world.ec2.machines) == 1


def test_no_zone_with_the_type_is_refused_before_anything_is_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a zone for the type, nothing is written."""
    monkeypatch.setattr(
        world.ec2, "describe_instance_type_offerings", lambda **_: {"InstanceTypeOfferings": []}
    )
    with pytest.raises(LaunchRefusedError, match="choose other"):
        world.look()
    assert world.supervisor().attempts.read() == ()


def test_cancelling_ends_the_machine_and_closes_the_attempt(world: World) -> None:
    """Cancelling twice is no error."""
    world.look()
    world.beat()
    for _ in range(2):
        world.supervisor().cancel("the task was killed")
    action, evidence = world.look()
    assert (action.kind, action.finding.state) == (ActionKind.FAIL, TrialState.CANCELLED)
    assert evidence.attempts[-1].outcome.end is AttemptEnd.CANCELLED
    assert world.ec2.living == []


def test_cancelling_what_is_trained_leaves_it_trained(world: World) -> None:
    """The teardown also cancels finished trials, which stay finished."""
    world.look()
    world.finish()
    world.supervisor().cancel("the run ended")
    assert world.look()[0].kind is ActionKind.FINISH


def test_a_machine_of_a_dead_workers_late_call_is_ended(world: World) -> None:
    """The attempt was closed during the call, so its machine belongs to no attempt and is ended."""
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
    """Both workers look before either writes."""
    one, other = world.supervisor(), world.supervisor()
    evidence = one.observe()
    one.learner.launch(evidence)
    other.learner.launch(evidence)
    stored = one.attempts.read()
    one.learner.requester.ask(stored[0], just_written=True)
    other.learner.requester.ask(stored[0])
    assert len(world.ec2.machines) == 1
    assert len(world.supervisor().ledger.read().entries) == 1


def test_a_failed_machine_has_limited_time_to_upload(world: World) -> None:
    """A failed machine may still upload its log; if it hangs, it is ended."""
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
    """The price comes from spot history, the price list, or the hourly reservation."""
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
    outcome = evidence.attempts[0].outcome
    assert outcome.usd is not None
    assert outcome.services_usd is not None
    assert outcome.usd - outcome.services_usd == pytest.approx(price)
    assert world.supervisor().ledger.read().spent_usd == outcome.usd


def test_a_machine_whose_launch_was_never_recorded_is_paid_as_what_it_is(world: World) -> None:
    """The machine trained and ended before a look, and it is paid at spot's price."""
    world.look()
    stored = world.supervisor().attempts.read()[0]
    world.supervisor().attempts.update(stored, lambda outcome: type(outcome)())
    world.pass_time(3600)
    world.finish()
    _, evidence = world.look()
    outcome = evidence.attempts[0].outcome
    assert (outcome.market, outcome.usd_per_hour) == ("spot", 0.036)


def test_a_machine_without_launch_record_is_adopted_by_its_heartbeat(
    world: World,
) -> None:
    """The heartbeat came before the worker's retry, when the token may have expired."""
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
def test_a_machine_that_ec2_does_not_find_yet_is_not_closed(world: World, answered: bool) -> None:
    """A new machine that EC2 does not find is tried again, and its attempt stays open."""
    world.ec2.hide_new = True
    world.look()
    if not answered:
        stored = world.supervisor().attempts.read()[0]
        world.supervisor().attempts.update(stored, lambda outcome: type(outcome)())
    world.ec2.unfound = 100
    with pytest.raises(ClientError, match="NotFound"):
        world.supervisor().drop(None, "stop signal")
    assert world.supervisor().attempts.read()[0].attempt.outcome.end is None
    world.ec2.unfound = 2
    world.supervisor().cancel("the run ended")
    assert world.ec2.living == []
    assert world.supervisor().attempts.read()[0].attempt.outcome.end is AttemptEnd.CANCELLED


@pytest.mark.parametrize(
    ("code", "end"),
    [("RequestLimitExceeded", None), ("InvalidLaunchTemplateId.NotFound", AttemptEnd.CANCELLED)],
)
def test_an_attempt_is_closed_by_a_refusal_and_not_by_throttling(
    world: World, monkeypatch: pytest.MonkeyPatch, code: str, end: AttemptEnd | None
) -> None:
    """A throttled repetition leaves open whether the first call launched a machine."""
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
    """A second worker looked between the reservation and the attempt, and freed the money."""
    worker, other = world.supervisor(), world.supervisor()
    create = worker.attempts.create

    def late(attempt: Attempt) -> bool:
        other.drop(None, "stop signal")
        assert other.ledger.read().entries == ()
        return create(attempt)

    monkeypatch.setattr(worker.attempts, "create", late)
    worker.advance()
    assert [(entry.attempt, entry.usd) for entry in worker.ledger.read().entries] == [(1, None)]
    assert len(world.machines_of()) == 1


def test_dropping_an_attempt_leaves_a_later_one_alone(world: World) -> None:
    """A cleared task may launch before the triggerer drops the old attempt."""
    world.look()
    world.supervisor().drop([1], "killed")
    world.look()
    assert len(world.machines_of()) == 1
    world.supervisor().drop([1], "killed")
    _, evidence = world.look()
    assert [attempt.outcome.end for attempt in evidence.attempts] == [AttemptEnd.MACHINE_LOST, None]
    assert len(world.machines_of()) == 1
