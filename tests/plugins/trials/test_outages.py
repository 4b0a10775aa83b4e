"""While AWS does not answer, nothing is concluded: unknown is not failed."""

from collections.abc import Callable
from typing import Any

import pytest

from rl_airflow.errors import EnvironmentNotReadyError
from rl_airflow.machines.instances import Machines
from rl_airflow.trials.shared_watch import TrialWatch, Wanted
from rl_airflow.trials.trigger import see
from rl_lifecycle.errors import InvalidRecordError, LifecycleError, StoreUnavailableError
from rl_lifecycle.machines.machine_attempts import AttemptEnd
from rl_lifecycle.storage.layout import heartbeat_key
from rl_lifecycle.storage.object_store import StoredObject
from rl_lifecycle.trials.actions import ActionKind, decide_action
from rl_lifecycle.trials.evidence import StepProgress
from tests.plugins.fake_ec2 import error
from tests.plugins.worlds import World


@pytest.fixture
def world() -> World:
    """A world whose trial trains on a machine."""
    world = World()
    world.look()
    world.beat(step=5000)
    assert world.look()[0].kind is ActionKind.WAIT
    return world


def refuse(*_: Any, **__: Any) -> Any:
    """Refuse as a busy EC2 does."""
    raise error("RequestLimitExceeded", "Request limit exceeded.", "DescribeInstances")


def test_a_machine_is_watched_by_its_heartbeats_while_ec2_is_throttled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trigger goes on for hours, and sees the end of the training."""
    _, evidence = world.look()
    watch = TrialWatch(world.store, Machines(world.ec2, "dev"))
    wanted = {world.trial(): Wanted(world.machines_of()[0])}
    monkeypatch.setattr(world.ec2, "get_paginator", refuse)
    for step in range(10_000, 90_000, 10_000):
        world.pass_time(500)
        world.beat(step=step)
        evidence = see(evidence, watch.look(wanted)[world.trial()], world.time)
        assert evidence.beat is not None
        assert evidence.beat.step == step
        assert decide_action(evidence).kind is ActionKind.WAIT
    world.beat("finished", 100_096)
    evidence = see(evidence, watch.look(wanted)[world.trial()], world.time)
    assert decide_action(evidence).finding.cause is AttemptEnd.FINISHED


def test_a_refusal_by_policy_is_not_taken_for_an_outage(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look fails, so that the worker finds and shows the cause."""

    def denied(*_: Any, **__: Any) -> Any:
        raise error("UnauthorizedOperation", "no", "DescribeInstances")

    watch = TrialWatch(world.store, Machines(world.ec2, "dev"))
    monkeypatch.setattr(world.ec2, "get_paginator", denied)
    with pytest.raises(Exception, match="UnauthorizedOperation"):
        watch.look({world.trial(): Wanted(world.machines_of()[0])})


def test_a_step_that_nobody_could_see_is_no_stall(world: World) -> None:
    """After an outage of the bucket the trainer has time to write its next heartbeat."""
    _, evidence = world.look()
    watch = TrialWatch(world.store, Machines(world.ec2, "dev"))
    wanted = {world.trial(): Wanted(world.machines_of()[0])}
    world.pass_time(1500)
    look = watch.look(wanted)[world.trial()]
    assert decide_action(see(evidence, look, world.time)).finding.cause is AttemptEnd.STALLED
    blind = see(evidence, look, world.time, blind=True)
    assert decide_action(blind).kind is ActionKind.WAIT
    world.pass_time(700)
    later = see(blind, look, world.time)
    assert decide_action(later).finding.cause is AttemptEnd.STALLED


def test_a_worker_that_waited_for_the_bucket_blames_no_machine(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time that the worker's own read took does not count as silence."""
    find: Callable[[str], Any] = world.store.find
    monkeypatch.setattr(world.store, "find", lambda key: (world.pass_time(700), find(key))[1])
    world.progress = StepProgress(attempt=1, step=5000, since=world.time)
    action, _ = world.supervisor().advance(world.progress)
    assert action.kind is ActionKind.WAIT
    assert len(world.machines_of()) == 1


def test_a_retry_after_a_long_time_looks_before_it_judges(world: World) -> None:
    """The remembered step is an hour old, and the heartbeat shows a later one."""
    remembered = StepProgress(attempt=1, step=5000, since=world.time)
    world.pass_time(3600 * 0.9)
    world.beat(step=80_000)
    action, evidence = world.supervisor().advance(remembered)
    assert action.kind is ActionKind.WAIT
    assert evidence.progress is not None
    assert evidence.progress.step == 80_000


def test_an_unreadable_heartbeat_is_a_cause(world: World) -> None:
    """The next heartbeat may be readable. If none is, the machine is replaced, with the reason."""
    key = heartbeat_key(world.trial())
    world.store.objects[key] = b'{"attempt": "one"'
    assert world.look_without_beat()[0].kind is ActionKind.WAIT
    world.pass_time(700)
    world.look_without_beat()
    first = world.supervisor().attempts.read()[0].attempt.outcome
    assert first.end is AttemptEnd.STALLED
    assert f"no readable heartbeat for 700 s: {key}" in first.reason
    assert "\n" not in first.reason


def test_a_heartbeat_that_nobody_else_can_read_is_a_cause(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 does not hand out what its writer archived. A store that is away is no such cause."""
    key, find = heartbeat_key(world.trial()), world.store.find

    def refuse(error: LifecycleError) -> None:
        def answer(asked: str) -> StoredObject | None:
            if asked == key:
                raise error
            return find(asked)

        monkeypatch.setattr(world.store, "find", answer)

    refuse(InvalidRecordError(key, "cannot be read: InvalidObjectState"))
    _, evidence = world.supervisor().advance(None)
    assert evidence.unreadable == f"{key}: cannot be read: InvalidObjectState"
    refuse(StoreUnavailableError(key, "SlowDown"))
    with pytest.raises(StoreUnavailableError):
        world.supervisor().advance(None)


def test_an_environment_that_is_not_bootstrapped_is_final() -> None:
    """Airflow does not retry the task, because a person must act first."""
    from airflow.sdk.exceptions import AirflowFailException

    assert issubclass(EnvironmentNotReadyError, AirflowFailException)
    assert str(EnvironmentNotReadyError("dev", "it has no subnet")).endswith(
        "trigger the DAG bootstrap_infrastructure"
    )
