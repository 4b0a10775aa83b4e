"""A trial with several machines: its launch, losses, end, and kills between any two lines."""

import asyncio
import functools
import random
from collections import Counter
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from rl_airflow.machines.instances import Machines
from rl_airflow.trials.operators import Ec2TerminateRunOperator
from rl_airflow.trials.shared_watch import TrialWatch
from rl_airflow.trials.task_state import MachineMemory
from rl_lifecycle.errors import BudgetExceededError
from rl_lifecycle.machines.machine_attempts import AttemptEnd
from rl_lifecycle.reports.run_summary import summarise_run
from rl_lifecycle.storage.layout import heartbeat_key, log_prefix
from rl_lifecycle.trials.actions import ActionKind
from rl_lifecycle.trials.evidence import Evidence
from rl_lifecycle.trials.gangs import GangReport, MemberReport
from rl_lifecycle.trials.heartbeats import Heartbeat
from rl_lifecycle.trials.seats import decide_seats
from tests.kill_rounds import seeds
from tests.plugins.fake_ec2 import error
from tests.plugins.trials.test_trials import FakeTaskStateStore, Stage, fire
from tests.plugins.worlds import Killed, Killer, World, is_over

SEEDS = seeds(6)


def gang(machines: int = 3, **compute: Any) -> World:
    """A world whose trials have several machines."""
    return World(
        compute={"machines": machines, "budget_usd": 100, **compute},
        hyperparameters={"n_envs": 8},
    )


def seats_alive(world: World) -> dict[str, int]:
    """Count the living machines of the first trial by seat."""
    return Counter(
        machine.tags.get("nightshift:seat", "0")
        for machine in world.ec2.living
        if machine.tags["nightshift:trial"] == "seed-0"
    )


def check(world: World, machines: int = 3) -> None:
    """Check that each seat has one machine, and that every machine is in the books."""
    assert seats_alive(world) == {str(seat): 1 for seat in range(machines)}
    attempts = world.supervisor().read_attempts()
    known = {attempt.outcome.instance_id for attempt in attempts}
    assert set(world.ec2.machines) <= known
    entries = world.supervisor().ledger.read().entries
    assert {(entry.trial, entry.attempt) for entry in entries} == {
        (attempt.trial, attempt.attempt) for attempt in attempts
    }


def test_each_seat_has_its_own_attempts_token_entry_and_tag() -> None:
    """The learner's machine has no seat's tag, so its request is that of a single machine."""
    world = gang()
    world.look()
    check(world)
    attempts = world.supervisor().read_attempts()
    assert [attempt.trial for attempt in attempts] == ["seed-0", "seed-0.1", "seed-0.2"]
    assert len({attempt.token for attempt in attempts}) == 3
    tags = [
        {tag["Key"]: tag["Value"] for tag in attempt.request["TagSpecifications"][0]["Tags"]}  # type: ignore[index,call-overload,union-attr]
        for attempt in attempts
    ]
    assert [one.get("nightshift:seat") for one in tags] == [None, "1", "2"]
    assert {one["nightshift:trial"] for one in tags} == {"seed-0"}
    assert len({one["nightshift:deadline"] for one in tags}) == 1
    assert world.look()[0].kind is ActionKind.WAIT
    check(world)


def test_a_trial_with_one_machine_has_one_seat_and_no_tag() -> None:
    """Nothing of it changes."""
    world = World()
    world.look()
    assert seats_alive(world) == {"0": 1}
    assert "nightshift:seat" not in world.machine_at(0).tags


def test_no_collector_is_requested_before_the_learner_has_a_machine() -> None:
    """It would only wait, and its zone is not known."""
    world = gang()
    world.ec2.refuse = lambda *_: "InsufficientInstanceCapacity"
    world.look()
    assert [one.trial for one in world.supervisor().read_attempts()] == ["seed-0"]
    world.ec2.refuse = lambda _type, zone, _market: (
        "InsufficientInstanceCapacity" if zone == "eu-west-1a" else None
    )
    world.pass_time(60)
    world.look()
    check(world)
    assert {machine.subnet_id for machine in world.ec2.living} == {"subnet-b"}


def test_a_lost_collector_is_replaced_and_the_learner_goes_on() -> None:
    """Its hours count for the budget, and not for the trial's `max_hours`."""
    world = gang(max_hours=1)
    world.look()
    learner = world.machine_at(0).instance_id
    for seat in range(3):
        world.beat(seat=seat)
    world.pass_time(1800)
    world.ec2.end(world.machine_at(2).instance_id, "Server.SpotInstanceTermination")
    action, evidence = world.look()
    check(world)
    assert action.kind is ActionKind.WAIT
    assert world.machine_at(0).instance_id == learner
    first, second = world.attempts_at(2)
    assert (first.outcome.end, first.outcome.reached_step) == (AttemptEnd.INTERRUPTED, 5000)
    assert second.deadline_at == evidence.attempts[0].deadline_at
    entry = world.supervisor().ledger.read().find("seed-0.2", 1)
    assert entry is not None
    assert (entry.usd or 0) > 0


def test_a_lost_learner_is_replaced_and_the_collectors_stay() -> None:
    """They wait for the next generation."""
    world = gang()
    world.look()
    others = {world.machine_at(seat).instance_id for seat in (1, 2)}
    world.beat("interrupted")
    world.ec2.end(world.machine_at(0).instance_id, "Server.SpotInstanceTermination")
    world.look()
    check(world)
    assert {world.machine_at(seat).instance_id for seat in (1, 2)} == others


def test_collectors_without_capacity_never_fail_the_trial_and_go_to_other_zones() -> None:
    """They are tried in the learner's zone first, and the trial goes on without them."""
    world = gang(2, on_demand_after=0)
    world.ec2.during["made"] = lambda: setattr(
        world.ec2,
        "refuse",
        lambda _type, zone, _market: (
            "InsufficientInstanceCapacity" if zone == "eu-west-1a" else None
        ),
    )
    world.look()
    asked = []
    for second in range(0, 600, 10):
        world.pass_time(10)
        world.beat(step=second)
        action, _ = world.look()
        assert action.kind is ActionKind.WAIT
        newest = world.attempts_at(1)[-1]
        overrides: Any = newest.request["LaunchTemplateConfigs"]
        asked.append({pool["SubnetId"] for pool in overrides[0]["Overrides"]})
    assert asked[0] == {"subnet-a"}
    assert asked[-1] == {"subnet-a", "subnet-b"}
    assert world.machine_at(1).subnet_id == "subnet-b"


def test_a_trained_trial_ends_all_its_machines_as_finished() -> None:
    """No machine works on, and all money is settled."""
    world = gang()
    world.look()
    for seat in range(3):
        world.beat(seat=seat)
    world.commit(100_000)
    world.beat("finished", 100_096)
    world.ec2.end(world.machine_at(0).instance_id, "Client.InstanceInitiatedShutdown")
    action, _ = world.look()
    assert action.kind is ActionKind.FINISH
    assert world.ec2.living == []
    ends = {one.outcome.end for one in world.supervisor().read_attempts()}
    assert ends == {AttemptEnd.FINISHED}
    assert all(entry.usd is not None for entry in world.supervisor().ledger.read().entries)


def test_a_failed_trial_ends_all_its_machines() -> None:
    """The collectors are cancelled with the reason."""
    world = gang()
    world.look()
    world.beat("failed", cause="code", message="ValueError: boom")
    world.ec2.end(world.machine_at(0).instance_id, "Client.InstanceInitiatedShutdown")
    action, _ = world.look()
    assert action.kind is ActionKind.FAIL
    assert world.ec2.living == []
    (other,) = world.attempts_at(1)
    assert other.outcome.end is AttemptEnd.CANCELLED
    assert "boom" in other.outcome.reason


def test_a_collectors_own_failure_fails_the_trial_and_a_clear_begins_again() -> None:
    """The reason is the collector's."""
    world = gang()
    world.look()
    world.beat()
    world.beat("failed", cause="environment", message="no module named sim", seat=2)
    world.ec2.end(world.machine_at(2).instance_id, "Client.InstanceInitiatedShutdown")
    action, _ = world.look()
    assert action.kind is ActionKind.FAIL
    assert action.finding.reason.startswith("machine 2: no module named sim; read the traceback")
    assert world.ec2.living == []
    assert world.look()[0].kind is ActionKind.FAIL
    world.pass_time(60)
    action, _ = world.supervisor().advance(again=True)
    assert action.kind is ActionKind.WAIT
    check(world)


def test_a_collector_that_never_collects_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """The trial goes on without it, and the log says so once."""
    world = gang(2)
    world.look()
    for _ in range(5):
        world.pass_time(60)
        world.beat(step=1000)
        for machine in list(world.ec2.living):
            if machine.tags.get("nightshift:seat") == "1":
                world.ec2.end(machine.instance_id, "Server.InternalError")
        assert world.look()[0].kind is ActionKind.WAIT
    assert seats_alive(world) == {"0": 1}
    assert len(world.attempts_at(1)) == 3
    assert caplog.text.count("the trial goes on without this one") == 1


def test_a_budget_that_is_too_small_for_all_machines_is_refused_at_the_launch() -> None:
    """A later machine for which no money is left is done without."""
    world = gang(budget_usd=1.0)
    with pytest.raises(BudgetExceededError):
        world.look()
    world = gang(2, budget_usd=1.4)
    world.look()
    world.supervisor().ledger.change(
        lambda ledger: ledger.reserve("other", 1, ledger.budget_usd - ledger.committed_usd)
    )
    world.beat()
    world.ec2.end(world.machine_at(1).instance_id, "Server.InternalError")
    action, evidence = world.look()
    assert (action.kind, evidence.collectors[0].held) == (ActionKind.WAIT, True)
    assert seats_alive(world) == {"0": 1}


def test_the_limit_of_machines_counts_those_of_all_seats() -> None:
    """A collector waits for a place like a trial, and the learner works."""
    world = gang(3, max_parallel=3)
    world.look()
    action, evidence = world.look("seed-1")
    assert (action.kind, evidence.no_place) == (ActionKind.WAIT, True)
    world.supervisor().cancel("over")
    world.look("seed-1")
    assert len(world.ec2.living) == 3


def test_a_stray_machine_of_one_seat_is_ended_and_no_other() -> None:
    """A dead worker's late call made it."""
    world = gang(2)
    world.look()
    late = world.attempts_at(1)[0]
    world.beat()
    world.ec2.end(world.machine_at(1).instance_id, "Server.InternalError")
    evidence, seat = world.supervisor().observe(), world.supervisor().seats[1]
    seat.look()
    seat.settle(decide_seats(evidence)[1].action.finding, evidence.at_seat(1))
    world.ec2._answers.clear()
    world.ec2.create_fleet(**late.request, ClientToken=late.token)
    world.look()
    assert seats_alive(world) == {"0": 1, "1": 1}
    assert {machine.tags["nightshift:attempt"] for machine in world.ec2.living} == {"1", "2"}


def test_machines_of_another_seat_are_not_adopted() -> None:
    """They have the same trial and the same number of the attempt."""
    world = gang(2)
    world.look()
    machines = Machines(world.ec2, "dev")
    found = [machines.find(world.trial().at_seat(seat), 1) for seat in (0, 1)]
    assert [one.instance_id if one else None for one in found] == [
        world.machine_at(seat).instance_id for seat in (0, 1)
    ]
    assert machines.find(world.trial().at_seat(2), 1) is None


def test_each_seat_remembers_its_own_machine() -> None:
    """EC2's answers to two requests are kept under two names."""
    context: Any = {"task_state_store": FakeTaskStateStore()}
    memory = MachineMemory(context)
    memory.keep("t0", "i-0")
    memory.at_seat(1).keep("t1", "i-1")
    assert (memory.find("t0"), memory.at_seat(1).find("t1")) == ("i-0", "i-1")
    assert memory.at_seat(1).find("t0") is None


def launch(world: World) -> None:
    """Run the launching task's work."""
    world.supervisor().advance(again=True)


def lose_two(world: World) -> None:
    """Launch a gang, and lose the learner and a collector at the same time."""
    launch(world)
    world.pass_time(300)
    world.commit(40_960)
    world.beat("interrupted", 41_000)
    world.beat("interrupted", 900, seat=1)
    for seat in (0, 1):
        world.ec2.end(world.machine_at(seat).instance_id, "Server.SpotInstanceTermination")


def count_lines(world: World, work: Any) -> int:
    """Count the lines before which a worker can be killed."""
    killer = Killer()
    killer.run(work)
    return killer.lines


@pytest.mark.parametrize("part", range(2))
def test_a_launch_killed_before_any_line_launches_one_machine_a_seat(part: int) -> None:
    """EC2 shows new machines at once, or (odd numbers) not yet."""
    world = gang(2)
    lines = count_lines(world, lambda: launch(world))
    assert lines > 300
    for line in range(1 + part, lines + 1, 8):
        world = gang(2)
        world.ec2.hide_new = part % 2 == 1
        Killer(line).run(lambda world=world: launch(world))
        launch(world)
        assert len(world.ec2.machines) == 2, f"killed before line {line}"
        check(world, 2)


@pytest.mark.parametrize("part", range(2))
def test_a_relaunch_killed_before_any_line_replaces_each_lost_machine_once(part: int) -> None:
    """The learner and a collector were lost at once."""
    world = gang(2)
    lose_two(world)
    lines = count_lines(world, world.look)
    for line in range(1 + part, lines + 1, 12):
        world = gang(2)
        lose_two(world)
        world.ec2.hide_new = part % 2 == 1
        Killer(line).run(lambda world=world: world.look())
        world.look()
        assert len(world.ec2.machines) == 4, f"killed before line {line}"
        check(world, 2)
        assert all(len(world.attempts_at(seat)) == 2 for seat in (0, 1))


def test_a_stopping_worker_killed_before_any_line_leaves_nothing_to_the_teardown() -> None:
    """The worker gets a stop signal while EC2 makes a collector's machine, and dies in its stop."""
    for line in range(1, 2000, 9):
        world, done = gang(2), list[bool]()
        supervisor, killer = world.supervisor(), Killer(line)

        def stop(
            world: World = world,
            killer: Killer = killer,
            supervisor: Any = supervisor,
            done: list[bool] = done,
        ) -> None:
            world.pass_time(2)
            done.append(killer.run(lambda: supervisor.drop(None, "stop signal")))
            raise Killed

        def arm(world: World = world, stop: Any = stop) -> None:
            world.ec2.during["made"] = stop  # the next request is the collector's

        world.ec2.hide_new, world.ec2.during["made"] = True, arm
        assert not Killer().run(lambda supervisor=supervisor: supervisor.advance(again=True))
        world.supervisor().cancel("the run ended")
        assert world.ec2.living == [], f"a machine works on after line {line}"
        known = {one.outcome.instance_id for one in world.supervisor().read_attempts()}
        assert set(world.ec2.machines) <= known
        assert all(entry.usd is not None for entry in world.supervisor().ledger.read().entries)
        if done == [True]:
            break
    assert line > 50


@pytest.mark.kills
@pytest.mark.parametrize("seed", SEEDS)
def test_a_gang_ends_under_any_kills_and_interruptions(seed: int) -> None:
    """Workers die, machines of any seat are lost, capacity changes, and two workers overlap."""
    rng = random.Random(seed)
    world = gang(3, max_hours=50, budget_usd=5000)
    world.ec2.refuse = lambda *_: "InsufficientInstanceCapacity" if rng.random() < 0.5 else None
    action, step, collected = None, 0, 0
    for _ in range(300):
        for _ in range(rng.choice((1, 1, 2))):
            killer = Killer(rng.randrange(1, 4000) if rng.random() < 0.5 else None)
            killer.run(functools.partial(world.look, supervisor=world.supervisor()))
        assert all(count == 1 for count in seats_alive(world).values()), "two at one seat"
        world.ec2.hide_new = rng.random() < 0.2
        for machine in world.ec2.machines.values():
            machine.hidden = machine.hidden and rng.random() < 0.5
        world.pass_time(rng.uniform(1, 120))
        for seat in list(seats_alive(world)):
            collected += rng.randrange(500)
            if rng.random() < 0.1:
                world.ec2.end(
                    world.machine_at(int(seat)).instance_id, "Server.SpotInstanceTermination"
                )
            elif seat != "0":
                world.beat(step=collected, seat=int(seat))
            else:
                step += rng.randrange(1000, 5000)
                world.beat(step=min(step, 99_999))
                world.commit(step - step % 1000)
                if step >= 100_000:
                    world.beat("finished", 100_096)
                    world.ec2.end(world.machine_at(0).instance_id, "Client.Shutdown")
        action, _ = world.look()
        if is_over(action):
            break
    assert action is not None
    assert is_over(action), f"still {action.finding} after all that"
    assert world.ec2.living == []
    attempts = world.supervisor().read_attempts()
    entries = world.supervisor().ledger.read().entries
    assert all(entry.usd is not None for entry in entries)
    assert len(entries) == len(attempts)
    ran = [one for one in attempts if one.outcome.instance_id]
    assert len(ran) == len(world.ec2.machines), "a machine that no attempt knows"


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """The tasks of a trial with three machines."""
    return Stage(
        monkeypatch,
        compute={"machines": 3, "budget_usd": 100},
        hyperparameters={"n_envs": 8},
    )


def test_the_trigger_fires_for_any_seat_and_the_worker_replaces_it(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """One line and one notice name the machine; the clocks of all seats survive."""
    stage.launch()
    trigger = stage.defer()
    for seat in range(3):
        stage.world.beat(seat=seat)
    stage.world.beat("interrupted", 4200, seat=1, message="spot notice")
    stage.world.ec2.end(stage.world.machine_at(1).instance_id, "Server.SpotInstanceTermination")
    event = fire(trigger)
    assert [one["step"] for one in event["collectors"]] == [4200, 5000]
    again = stage.defer(event)
    check(stage.world)
    ((kind, message),) = stage.notices
    assert kind == "interrupted"
    assert "which collected as machine 1, was lost after 4,200 steps: spot notice" in message
    assert message in caplog.text
    assert len(again.evidence["collectors"]) == 2
    assert "Overrides" not in str(again.evidence)


def test_all_seats_are_seen_with_the_calls_of_one_trial(stage: Stage) -> None:
    """One DescribeInstances call and one LIST show all machines."""
    stage.launch()
    lists, real = list[str](), stage.world.store.list

    def listed(prefix: str) -> Any:
        lists.append(prefix)
        return real(prefix)

    stage.world.store.list = listed  # type: ignore[method-assign]
    watch = TrialWatch(stage.world.store, Machines(stage.world.ec2, "dev"))
    stage.watch = lambda: watch  # type: ignore[method-assign]
    trigger = stage.defer()
    stage.world.finish()
    stage.world.ec2.calls.clear()
    fire(trigger)
    assert stage.world.ec2.calls == ["DescribeInstances"]
    assert lists == ["heartbeats/cartpole_ppo/night-1/"]


def test_killing_the_deferred_task_ends_the_machines_of_all_seats(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of another trial work on."""
    stage.launch("seed-0")
    stage.launch("seed-1")
    trigger = stage.defer()
    monkeypatch.setattr(
        type(stage.world.plan), "session", lambda plan, role, aws_conn_id=None: stage
    )
    asyncio.run(trigger.on_kill())
    assert stage.world.machines_of("seed-0") == []
    assert len(stage.world.machines_of("seed-1")) == 3
    stage.defer()
    assert seats_alive(stage.world) == {"0": 1, "1": 1, "2": 1}


def test_a_collectors_failure_shows_the_end_of_its_own_log(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """The learner's log does not have the traceback."""
    stage.launch()
    place = stage.world.trial().at_seat(1)
    stage.world.store.put(log_prefix(place, 1) + "trainer.jsonl", b'{"message": "its traceback"}\n')
    stage.world.beat("failed", cause="code", message="boom", seat=1)
    stage.world.ec2.end(stage.world.machine_at(1).instance_id, "Client.InstanceInitiatedShutdown")
    with pytest.raises(AirflowFailException, match="machine 1: boom"):
        stage.awaiting().execute(stage.context)
    assert "seed-0 | its traceback" in caplog.text


def test_the_teardown_ends_and_counts_the_machines_of_all_seats(stage: Stage) -> None:
    """Its books have each of them."""
    stage.launch("seed-0")
    teardown = Ec2TerminateRunOperator(task_id="terminate", plan=stage.world.plan.to_xcom())
    assert teardown.execute(stage.context) == {
        "instances_left": [],
        "attempts": {"seed-0": 3, "seed-1": 0},
    }
    assert stage.world.ec2.living == []
    assert all(entry.usd is not None for entry in stage.world.supervisor().ledger.read().entries)
    assert stage.world.store.find(heartbeat_key(stage.world.trial())) is None


def test_the_progress_and_the_end_name_the_machines_that_collect(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """They are in the learner's heartbeat; the cost is that of all machines."""
    stage.launch()
    trigger = stage.defer()
    world = stage.world
    world.beat(step=99_000, seat=1)
    members = (
        MemberReport(seat=0, processes=1, shards=1),
        MemberReport(seat=1, processes=1, shards=3),
    )
    gang_report = GangReport(generation=2, members=members, joined=2, lost=1)
    world.pass_time(3600)
    world.beat(state="finished", step=100_096)
    found = Heartbeat.from_json(world.store.objects[heartbeat_key(world.trial())])
    told = found.model_copy(update={"gang": gang_report})
    world.store.put(heartbeat_key(world.trial()), told.to_json())
    world.ec2.end(world.machine_at(0).instance_id, "Client.InstanceInitiatedShutdown")
    text = "gang 2: machine 0 collects 1 shard, machine 1 collects 3 shards; 2 joined, 1 lost"
    line = trigger._progress_line(
        Evidence.from_value(trigger.evidence, "").model_copy(update={"heartbeat": told})
    )
    assert text in line
    assert f"USD {3 * 0.034:.4f}" in line
    end = stage.awaiting().execute(stage.context)
    assert (end["state"], end["attempts"], end["gang"]) == ("finished", 3, text)
    (summary, *_) = summarise_run(world.store, world.experiment.name, world.spec.run).trials
    assert (summary.n_attempts, summary.interruptions, summary.state) == (3, 0, "finished")
    assert summary.usd == pytest.approx(end["usd"], abs=1e-6)
    assert summary.seconds > 3 * 3590


def test_machines_are_launched_when_ec2_does_not_say_what_it_encrypts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The launcher of an earlier deployment may not ask, and a new type may be unknown."""
    world = gang(2, instance_types=["c7i.large", "c6i.large"], market="on-demand")

    def denied(**_: object) -> None:
        raise error("UnauthorizedOperation", "no", "DescribeInstanceTypes")

    monkeypatch.setattr(world.ec2, "describe_instance_types", denied)
    world.look()
    assert [machine.instance_type for machine in world.ec2.living] == ["c7i.large"] * 2


def test_a_trigger_of_many_machines_holds_no_answers_of_pools() -> None:
    """Airflow reads the arguments of all triggers from its database again and again."""
    world = gang(2)
    world.ec2.during["made"] = lambda: setattr(
        world.ec2, "refuse", lambda *_: "InsufficientInstanceCapacity"
    )
    world.look()
    evidence = world.supervisor().observe()
    assert evidence.collectors[0].attempts[0].outcome.refusals
    (kept,) = evidence.without_requests().collectors[0].attempts
    assert (kept.request, kept.outcome.refusals) == ({}, ())
    assert decide_seats(evidence.without_requests()) == decide_seats(evidence)


def test_a_lost_worker_that_hung_in_its_look_ends_no_machine_of_its_replacement(
    stage: Stage,
) -> None:
    """It hung before it looked at the collectors, which its replacement replaced."""
    stage.launch()
    world, stale, real = stage.world, stage.awaiting(), stage.world.store.find

    def hang(key: str) -> Any:
        if key.startswith("heartbeats/"):
            world.store.find = real  # type: ignore[method-assign]
            for seat in range(3):
                world.ec2.end(world.machine_at(seat).instance_id, "Server.InternalError")
            stage.defer()
            stale.on_kill()
        return real(key)

    world.store.find = hang  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        stale.execute(stage.context)
    assert seats_alive(world) == {"0": 1, "1": 1, "2": 1}
    assert [one.attempt for one in world.supervisor().read_attempts()] == [1, 2] * 3
