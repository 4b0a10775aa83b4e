"""Killed workers and interrupted machines leave one machine per trial, no orphan, and an end.

A worker is killed before each line of the plugin in turn.
"""

import functools
import random
from collections.abc import Callable
from typing import NoReturn

import pytest

from rl_airflow.trials.supervisor import TrialSupervisor
from rl_lifecycle.machines.machine_attempts import AttemptEnd
from rl_lifecycle.trials.actions import ActionKind
from tests.kill_rounds import seeds
from tests.plugins.worlds import Killed, Killer, World, is_over

#: How many seeded worlds are run; `make soak` sets it.
SEEDS = seeds(10)


def launch(world: World) -> None:
    """Run the launching task's work."""
    world.supervisor().advance(again=True)


def interrupted(world: World) -> None:
    """Launch a machine, train, and interrupt it."""
    launch(world)
    world.pass_time(300)
    world.commit(40_960)
    world.beat("interrupted", 41_000)
    world.ec2.end(world.machines_of()[0], "Server.SpotInstanceTermination")


def count_lines(before: Callable[[World], None], work: Callable[[World], object]) -> int:
    """Count the lines before which a worker can be killed."""
    world = World()
    before(world)
    killer = Killer()
    killer.run(lambda: work(world))
    return killer.lines


def die() -> NoReturn:
    """Act as SIGKILL does."""
    raise Killed


def stop(supervisor: TrialSupervisor) -> NoReturn:
    """Act as a worker that gets a stop signal."""
    supervisor.drop(None, "stop signal")
    raise SystemExit


@pytest.mark.parametrize("part", range(4))
def test_a_launch_killed_before_any_line_launches_exactly_once(part: int) -> None:
    """The worker dies before any line of a launch, and a retry launches one machine.

    EC2 shows the machine at once, or (odd numbers) not yet.
    """

    def begin(world: World) -> None:
        world.ec2.hide_new = part % 2 == 1

    lines = count_lines(begin, launch)
    assert lines > 100
    for line in range(1 + part, lines + 1, 4):
        world = World()
        begin(world)
        assert not Killer(line).run(lambda world=world: launch(world))
        launch(world)
        check(world, machines=1, attempts=1)


@pytest.mark.parametrize("part", range(4))
def test_a_relaunch_killed_before_any_line_relaunches_exactly_once(part: int) -> None:
    """The worker dies before any line that settles the lost machine and launches the next.

    EC2 shows the next machine at once, or (odd numbers) not yet.
    """

    def begin(world: World) -> None:
        interrupted(world)
        world.ec2.hide_new = part % 2 == 1

    lines = count_lines(begin, World.look)
    for line in range(1 + part, lines + 1, 4):
        world = World()
        begin(world)
        assert not Killer(line).run(lambda world=world: world.look())
        world.look()
        check(world, machines=2, attempts=2)
        first = world.supervisor().attempts.read()[0].attempt
        assert first.outcome.end is AttemptEnd.INTERRUPTED
        entry = world.supervisor().ledger.read().find("seed-0", 1)
        assert entry is not None
        assert entry.usd is not None


@pytest.mark.parametrize("moment", ["sent", "made"])
def test_a_launch_killed_inside_the_call_launches_exactly_once(moment: str) -> None:
    """The request did not arrive, or EC2 launched a machine that it does not show yet."""
    world = World()
    world.ec2.hide_new, world.ec2.during[moment] = True, die
    assert not Killer().run(lambda: launch(world))
    launch(world)
    check(world, machines=1, attempts=1)


@pytest.mark.parametrize("retried", [False, True])
def test_a_worker_killed_while_it_stops_leaves_no_unknown_machine(retried: bool) -> None:
    """A worker is killed during its stop; the retry or the teardown ends the machine."""
    for line in range(1 + retried, 1000, 3):
        world = World(compute={"max_parallel": 1})
        killer = Killer(line)
        finished = _stopped_in_the_call(world, killer)
        if retried:
            for _ in range(2):  # the dead worker had ended the machine, as the first look finds
                world.look()
                world.pass_time(400)
            assert len(world.ec2.living) == 1
        world.supervisor().cancel("the run ended")
        assert world.ec2.living == [], f"a machine works on after line {line}"
        ledger = world.supervisor().ledger.read()
        assert all(entry.usd is not None for entry in ledger.entries)
        assert len(
            [one for one in world.supervisor().attempts.read() if one.attempt.outcome.instance_id]
        ) == len(world.ec2.machines)
        if finished:
            break
    assert line > 50


def _stopped_in_the_call(world: World, killer: Killer) -> bool:
    """Launch, get a stop signal before EC2 answers, and be killed while stopping.

    :return: whether the stop ran to its end
    """
    done: list[bool] = []
    supervisor = world.supervisor()

    def told() -> NoReturn:
        world.pass_time(2)
        done.append(killer.run(lambda: supervisor.drop(None, "stop signal")))
        raise Killed

    world.ec2.hide_new, world.ec2.during["made"] = True, told
    assert not Killer().run(lambda: supervisor.advance(again=True))
    return done == [True]


def test_a_cancellation_killed_before_any_line_can_be_repeated() -> None:
    """After a repeated cancellation no machine is left and the ledger is settled."""
    lines = count_lines(launch, lambda world: world.supervisor().cancel("killed"))
    for line in range(1, lines + 1, 3):
        world = World()
        launch(world)
        Killer(line).run(lambda world=world: world.supervisor().cancel("killed"))
        world.supervisor().cancel("killed")
        assert world.ec2.living == []
        assert world.supervisor().attempts.read()[-1].attempt.outcome.end is AttemptEnd.CANCELLED


@pytest.mark.kills
@pytest.mark.parametrize("seed", SEEDS)
def test_a_trial_ends_under_any_kills_and_interruptions(seed: int) -> None:
    """Workers die or stop, machines hang or vanish, capacity changes, and two workers overlap."""
    rng = random.Random(seed)
    world = World(compute={"max_hours": 50, "budget_usd": 1000})
    world.ec2.refuse = lambda *_: "InsufficientInstanceCapacity" if rng.random() < 0.6 else None
    action, step = None, 0
    for _ in range(400):
        for _ in range(rng.choice((1, 1, 2))):
            supervisor = world.supervisor()
            death = functools.partial(stop, supervisor) if rng.random() < 0.1 else die
            if rng.random() < 0.1:
                world.ec2.during[rng.choice(("sent", "made"))] = death
            killer = Killer(rng.randrange(1, 1500) if rng.random() < 0.5 else None, death)
            killer.run(functools.partial(world.look, supervisor=supervisor))
            world.ec2.during.clear()
        assert len(world.ec2.living) <= 1, "two machines work on one trial"
        world.ec2.hide_new = rng.random() < 0.2
        for machine in world.ec2.machines.values():
            machine.hidden = machine.hidden and rng.random() < 0.5
        world.pass_time(rng.uniform(1, 120))
        if world.machines_of():
            step = happen(world, rng, step)
        action, evidence = world.look()
        if is_over(action):
            break
    assert action is not None
    assert is_over(action), f"still {action.finding} after all that"
    assert world.ec2.living == []
    books = world.supervisor().ledger.read()
    assert all(entry.usd is not None for entry in books.entries)
    assert len(books.entries) == len(evidence.attempts)
    ran = [attempt for attempt in evidence.attempts if attempt.outcome.instance_id]
    assert len(ran) == len(world.ec2.machines), "a machine that no attempt knows"


def happen(world: World, rng: random.Random, step: int) -> int:
    """Let the machine suffer an event or train on.

    :return: the step that it reached
    """
    machine, event = world.machines_of()[0], rng.random()
    if event < 0.08:
        world.beat("interrupted", step)
        world.ec2.end(machine, "Server.SpotInstanceTermination")
    elif event < 0.14:
        world.ec2.end(machine, rng.choice(["Server.InternalError", "Client.UserInitiatedShutdown"]))
    elif event < 0.18:
        world.beat("training", step)
        world.pass_time(4000)  # the machine hangs
    else:
        step += rng.randrange(1000, 9000)
        world.beat("training", min(step, 99_999))
        if rng.random() < 0.4:
            world.commit(step - step % 1000)
        if step >= 100_000:
            world.finish()
    return step


def check(world: World, *, machines: int, attempts: int) -> None:
    """Check that only the newest attempt's machine works and that every launch is recorded."""
    stored = [one.attempt for one in world.supervisor().attempts.read()]
    assert len(stored) == attempts
    assert len(world.ec2.machines) == machines
    assert world.machines_of() == [stored[-1].outcome.instance_id]
    assert [entry.attempt for entry in world.supervisor().ledger.read().entries] == list(
        range(1, attempts + 1)
    )
    assert world.look()[0].kind is ActionKind.WAIT
