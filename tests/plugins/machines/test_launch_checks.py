"""What is refused before a machine is asked for, and what waits: template, image, quotas, places in
the run.
"""

from datetime import timedelta

import pytest

from rl_airflow.machines.instances import Machines
from rl_lifecycle.errors import LaunchRefusedError
from rl_lifecycle.machines.attempts import AttemptEnd
from rl_lifecycle.machines.auto_types import AUTO_TYPES
from rl_lifecycle.trials.actions import ActionKind
from rl_lifecycle.trials.states import TrialState
from tests.plugins.worlds import World


def refused(world: World, match: str) -> None:
    """The launch is refused, before anything is written or asked for."""
    with pytest.raises(LaunchRefusedError, match=match):
        world.look()
    assert world.supervisor().attempts.read() == ()
    assert world.supervisor().ledger.read().entries == ()
    assert "CreateFleet" not in world.ec2.calls


def test_a_deleted_launch_template_is_refused_with_the_fix() -> None:
    """Bootstrap makes another."""
    world = World()
    world.ec2.template_gone = True
    refused(
        world,
        r"lt-0123456789abcdef0 has no version 1 any more: trigger bootstrap_infrastructure, then "
        r"a new run",
    )


def test_an_image_that_is_gone_is_refused_with_the_fix() -> None:
    """AWS retires images of its own after two years."""
    world = World()
    world.ec2.image_gone = True
    refused(world, "the machine image ami-0123456789abcdef0 of the launch template .* is gone")


def test_no_quota_is_refused_with_the_fix() -> None:
    """As a new account has for GPUs."""
    world = World(compute={"instance_types": ["g5.xlarge"]})
    world.quotas.vcpus = 0.0
    refused(world, "quota L-3819A6DF allows 0 vCPUs .* request-service-quota-increase")


def test_a_full_quota_is_waited_out_without_asking_ec2() -> None:
    """Each pool is named; the next attempt looks again."""
    world = World()
    world.quotas.vcpus = 3.0
    world.look("seed-0")
    calls = world.ec2.calls.count("CreateFleet")
    action, evidence = world.look("seed-1")
    assert (action.kind, action.finding.state) == (ActionKind.WAIT, TrialState.WAITING_FOR_CAPACITY)
    first = evidence.attempts[0].outcome
    assert first.end is AttemptEnd.NO_CAPACITY
    assert first.reason.startswith(
        "MaxSpotInstanceCountExceeded: the account's vCPU quota is used up"
    )
    assert len(first.refusals) == 2 * len(AUTO_TYPES)
    assert world.ec2.calls.count("CreateFleet") == calls
    world.finish("seed-0")
    world.pass_time(60)
    assert world.look("seed-1")[0].finding.state is TrialState.LAUNCHING


def test_a_quota_that_nobody_may_read_is_left_to_ec2() -> None:
    """A launch does not hang on a right that it can do without."""
    world = World()
    world.quotas.vcpus = None
    assert world.look()[0].finding.state is TrialState.LAUNCHING


def test_other_peoples_machines_count_against_the_quota() -> None:
    """The account is theirs, too."""
    world = World()
    world.quotas.vcpus = 2.0
    world.look("seed-0")
    next(iter(world.ec2.machines.values())).tags.clear()
    assert world.look("seed-1")[0].finding.state is TrialState.WAITING_FOR_CAPACITY


def test_only_so_many_machines_of_a_run_are_up_and_the_next_takes_the_free_place() -> None:
    """`compute.max_parallel`; a trial without a place has no attempt yet and costs nothing."""
    world = World(compute={"max_parallel": 1})
    world.look("seed-0")
    action, evidence = world.look("seed-1")
    assert (action.kind, action.finding.state, evidence.attempts, evidence.no_place) == (
        ActionKind.WAIT,
        TrialState.PENDING,
        (),
        True,
    )
    assert "compute.max_parallel 1" in action.finding.reason
    world.finish("seed-0")
    world.look("seed-0")
    assert world.look("seed-1")[0].finding.state is TrialState.LAUNCHING
    assert len(world.ec2.living) == 1


def test_a_place_of_a_cancelled_trial_is_free_although_its_worker_died_between_two_writes() -> None:
    """Its reservation was there, its attempt was not."""
    world = World(compute={"max_parallel": 1})
    one = world.supervisor("seed-0")
    one.ledger.change(lambda books: books.reserve("seed-0", 1, 0.1))
    assert world.look("seed-1")[0].kind is ActionKind.WAIT
    world.supervisor("seed-0").cancel("the run ended")
    assert world.look("seed-1")[0].finding.state is TrialState.LAUNCHING


def test_a_trial_that_is_due_soon_is_launched_on_demand() -> None:
    """Four hours are allowed, and it is needed in three."""
    world = World(compute={"needed_by": "05:00"})
    world.look()
    assert world.supervisor().attempts.read()[0].attempt.outcome.market == "on-demand"
    later = World(compute={"needed_by": "09:00"})
    later.look()
    assert later.supervisor().attempts.read()[0].attempt.outcome.market == "spot"
    later.ec2.end(later.machines_of()[0], "Server.SpotInstanceTermination")
    later.time += timedelta(hours=4)
    later.look()
    assert later.supervisor().attempts.read()[1].attempt.outcome.market == "on-demand"


def test_a_cancelled_trials_place_is_free_at_once() -> None:
    """Not only when the teardown settles, which waits for those who wait for the place."""
    world = World(compute={"max_parallel": 1})
    world.look("seed-0")
    world.supervisor("seed-0").cancel("its task was killed")
    assert world.look("seed-1")[0].finding.state is TrialState.LAUNCHING


def test_a_place_whose_worker_and_machine_are_gone_is_free_after_the_deadline() -> None:
    """Nobody closes the attempt, because its task has used up its retries."""
    world = World(compute={"max_parallel": 1, "max_hours": 1})
    world.look("seed-0")
    world.ec2.end(world.machines_of("seed-0")[0], "Client.InstanceInitiatedShutdown")
    world.pass_time(3600)
    assert world.look("seed-1")[1].no_place
    world.pass_time(1801)
    assert world.look("seed-1")[0].finding.state is TrialState.LAUNCHING


def test_a_repeated_request_is_asked_with_its_token_although_its_own_machine_fills_the_quota(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first answer was lost, and EC2 does not show the tags of the machine to the second
    worker.
    """
    world = World()
    world.quotas.vcpus = 2.0
    world.ec2.lose_answers = True
    with pytest.raises(ConnectionError):
        world.look()
    world.ec2.lose_answers = False
    monkeypatch.setattr(Machines, "find", lambda *_: None)
    _, evidence = world.look()
    assert [attempt.outcome.end for attempt in evidence.attempts] == [None]
    assert [evidence.attempts[0].outcome.instance_id] == world.machines_of()


def test_a_rule_leads_to_no_market_on_which_no_machine_can_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The experiment says spot, it is due soon, and the account has no on-demand quota: it stays on
    spot, and says so.
    """
    world = World(compute={"needed_by": "05:00"})
    real = world.quotas.get_service_quota

    def none_on_demand(**request: object) -> dict[str, object]:
        return (
            {"Quota": {"Value": 0.0}} if request["QuotaCode"] == "L-1216C47A" else real(**request)
        )

    world.quotas.get_service_quota = none_on_demand  # type: ignore[method-assign]
    assert world.look()[0].finding.state is TrialState.LAUNCHING
    assert [machine.market for machine in world.ec2.living] == ["spot"]
    assert (
        "it is time for on-demand, but the account's quota allows no such machine: staying on spot"
        in caplog.text
    )
