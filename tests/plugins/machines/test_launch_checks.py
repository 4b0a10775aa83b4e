"""Template, image, quotas and places are checked before a machine is requested."""

from datetime import timedelta

import pytest

from rl_airflow.machines.instances import Machines
from rl_lifecycle.errors import LaunchRefusedError
from rl_lifecycle.machines.auto_types import AUTO_TYPES
from rl_lifecycle.machines.machine_attempts import AttemptEnd
from rl_lifecycle.trials.actions import ActionKind
from rl_lifecycle.trials.states import TrialState
from tests.plugins.worlds import World


def refused(world: World, match: str) -> None:
    """Assert that the launch is refused before a write or a request."""
    with pytest.raises(LaunchRefusedError, match=match):
        world.look()
    assert world.supervisor().attempts.read() == ()
    assert world.supervisor().ledger.read().entries == ()
    assert "CreateFleet" not in world.ec2.calls


def test_a_deleted_launch_template_is_refused_with_the_fix() -> None:
    """A deleted template is refused with the DAG that creates another."""
    world = World()
    world.ec2.template_gone = True
    refused(
        world,
        r"lt-0123456789abcdef0 has no version 1 any more: trigger bootstrap_infrastructure, then "
        r"a new run",
    )


def test_a_missing_image_is_refused_with_the_fix() -> None:
    """A missing image is refused with the fix; AWS retires its own images after two years."""
    world = World()
    world.ec2.image_gone = True
    refused(world, "the machine image ami-0123456789abcdef0 of the launch template .* is gone")


def test_an_arm64_type_is_refused_by_name() -> None:
    """A type that no machine image runs on is refused, also beside types that could be launched."""
    world = World(compute={"instance_types": ["c7i.large", "c7g.large"]})
    refused(
        world, r"c7g\.large: arm64, and training machines are x86_64 only: choose other compute"
    )


def test_no_quota_is_refused_with_the_fix() -> None:
    """A quota of zero, as new accounts have for GPUs, is refused with the fix."""
    world = World(compute={"instance_types": ["g5.xlarge"]})
    world.quotas.vcpus = 0.0
    refused(world, "quota L-3819A6DF allows 0 vCPUs .* request-service-quota-increase")


def test_a_full_quota_is_waited_out_without_asking_ec2() -> None:
    """A full quota names each pool, and the next attempt checks again."""
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


def test_a_quota_that_may_not_be_read_is_left_to_ec2() -> None:
    """Without the right to read quotas, the launch continues and EC2 decides."""
    world = World()
    world.quotas.vcpus = None
    assert world.look()[0].finding.state is TrialState.LAUNCHING


def test_other_peoples_machines_count_against_the_quota() -> None:
    """The quota is the account's, so foreign machines count too."""
    world = World()
    world.quotas.vcpus = 2.0
    world.look("seed-0")
    next(iter(world.ec2.machines.values())).tags.clear()
    assert world.look("seed-1")[0].finding.state is TrialState.WAITING_FOR_CAPACITY


def test_only_so_many_machines_of_a_run_are_up_and_the_next_takes_the_free_place() -> None:
    """`compute.max_parallel` limits machines; a waiting trial has no attempt and no cost."""
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


def test_the_place_of_a_cancelled_trial_is_free_after_a_crash_of_its_worker() -> None:
    """The worker had reserved money and had not yet written the attempt."""
    world = World(compute={"max_parallel": 1})
    one = world.supervisor("seed-0")
    one.ledger.change(lambda books: books.reserve("seed-0", 1, 0.1))
    assert world.look("seed-1")[0].kind is ActionKind.WAIT
    world.supervisor("seed-0").cancel("the run ended")
    assert world.look("seed-1")[0].finding.state is TrialState.LAUNCHING


def test_a_trial_that_is_due_soon_is_launched_on_demand() -> None:
    """With four hours of work due in three, the trial uses on-demand."""
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
    """The place is free before the teardown, which waits for the trials that wait for a place."""
    world = World(compute={"max_parallel": 1})
    world.look("seed-0")
    world.supervisor("seed-0").cancel("its task was killed")
    assert world.look("seed-1")[0].finding.state is TrialState.LAUNCHING


def test_a_place_of_a_dead_worker_and_machine_is_free_after_the_deadline() -> None:
    """The place is free after the deadline, because no retry is left to close the attempt."""
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
    """The first answer was lost, so the machine that fills the quota may be the launch's own."""
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


def test_a_rule_never_selects_a_market_with_a_zero_quota(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A due spot trial stays on spot, and says so, if the account has no on-demand quota."""
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
