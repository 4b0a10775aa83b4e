"""A trial that reached its target, or is hopeless, ends its machine early."""

import asyncio
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from rl_airflow.machines.instances import Machines
from rl_airflow.trials import shared_watch as watching
from rl_airflow.trials import trigger as triggers
from rl_airflow.trials.learning_curves import find_shards
from rl_airflow.trials.progress_reports import end_of_trial
from rl_airflow.trials.shared_watch import SharedReading, SharedWatch, TrialWatch
from rl_airflow.trials.trigger import Ec2TrialTrigger
from rl_lifecycle.evaluation.requests import EpisodeEnd, Shard
from rl_lifecycle.evaluation.selection import selection_name
from rl_lifecycle.machines.machine_attempts import AttemptEnd
from rl_lifecycle.reports.run_summary import render_summary, summarise_run
from rl_lifecycle.storage.layout import shard_key
from rl_lifecycle.trials.actions import ActionKind
from rl_lifecycle.trials.evidence import Evidence
from rl_lifecycle.trials.states import TrialState
from tests.plugins.trials.test_trials import Stage
from tests.plugins.trials.test_watching import FakeCountingStore
from tests.plugins.worlds import World

RULE = {"target_above": 400, "hopeless_below": 100}


def evaluated(world: World, step: int, value: float, n_episodes: int = 100) -> None:
    """Store the evaluation of one of the trial's policies."""
    shard = Shard(
        env_id="CartPole-v1",
        policy_sha256=str(step),
        first_seed=world.spec.selection_first_seed,
        returns=(value,) * n_episodes,
        lengths=(1,) * n_episodes,
        ends=(EpisodeEnd.TERMINATED,) * n_episodes,
        steps=1,
        seconds=1.0,
    )
    world.store.put(
        shard_key(world.experiment.name, world.spec.run, selection_name("seed-0", step), 0),
        shard.to_json(),
    )


def training(world: World, step: int = 40_960) -> World:
    """The trial's machine is training."""
    world.look()
    world.pass_time(60)
    world.commit(step)
    world.beat(step=step)
    return world


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ({40_960: 480.0}, "target reached at step 40,960"),
        ({10_000: 9.0, 20_000: 9.0, 60_000: 12.0}, "hopeless at step 60,000"),
    ],
)
def test_a_trial_that_stops_early_ends_its_machine_and_is_finished(
    points: dict[int, float], message: str
) -> None:
    """Its policies are candidates, and the report has the reason and the saved cost."""
    world = training(World(early_stop=RULE))
    for step, value in points.items():
        evaluated(world, step, value)
    action, evidence = world.look()
    assert (action.kind, action.finding.state) == (ActionKind.FINISH, TrialState.FINISHED)
    assert action.finding.reason.startswith(message)
    assert world.machines_of() == []
    outcome = evidence.attempts[-1].outcome
    assert outcome.end is AttemptEnd.STOPPED_EARLY
    assert (outcome.saved_usd or 0) > 0
    assert end_of_trial(world.trial(), evidence, action.finding).saved_usd > 0
    text = render_summary(summarise_run(world.store, world.experiment.name, world.spec.run))
    assert "stopped early" in text
    assert f"seed-0: {message}" in text


@pytest.mark.parametrize("rule", [{}, {"target_above": 490}, {"hopeless_below": 100}])
def test_a_trial_that_shows_nothing_trains_on(rule: dict[str, Any]) -> None:
    """Without a rule, or without a decision, the trial continues."""
    world = training(World(early_stop=rule))
    evaluated(world, 40_960, 480.0)
    assert world.look()[0].kind is ActionKind.WAIT
    assert len(world.machines_of()) == 1


def test_an_evaluation_that_is_not_complete_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """An incomplete evaluation stops nothing, and the log has its number of episodes."""
    world = training(World(early_stop=RULE))
    evaluated(world, 40_960, 480.0, n_episodes=99)
    with caplog.at_level("INFO"):
        assert world.look()[0].kind is ActionKind.WAIT
    assert "seed-0 at step 40,960: 99 of 100 selection episodes are evaluated" in caplog.text


def test_a_curve_that_cannot_be_read_costs_no_training(caplog: pytest.LogCaptureFixture) -> None:
    """Contradicting or unreadable shards are logged, and the trial continues."""
    world = training(World(early_stop=RULE))
    world.store.put(
        shard_key(world.experiment.name, world.spec.run, selection_name("seed-0", 40_960), 0),
        b"no JSON",
    )
    assert world.look()[0].kind is ActionKind.WAIT
    assert "seed-0: its learning curve cannot be read, so it trains on" in caplog.text


def test_a_trial_that_waits_for_a_machine_needs_none_any_more() -> None:
    """An interrupted trial that reached its target is not launched again."""
    world = training(World(early_stop=RULE))
    world.ec2.end(world.machines_of()[0], "Server.SpotInstanceTermination")
    evaluated(world, 40_960, 480.0)
    assert world.look()[0].kind is ActionKind.FINISH
    assert world.machines_of() == []


def test_the_deferred_task_wakes_up_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trigger reads the curve and wakes the deferred task."""
    stage = Stage(monkeypatch, early_stop=RULE)
    stage.launch()
    training(stage.world)
    trigger = stage.defer()
    evaluated(stage.world, 40_960, 480.0)

    async def first() -> Any:
        return await anext(trigger.run())

    event = asyncio.run(first()).payload
    result = stage.awaiting().execute_complete(stage.context, event)
    assert result["state"] == "finished"
    assert result["reason"].startswith("target reached")


def test_a_hundred_trials_look_at_their_curves_with_one_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All share one LIST and one GET of the spec; each trigger reads its own shards once."""
    stage = Stage(monkeypatch, early_stop=RULE, trials=100, compute={"budget_usd": 100})
    stage.launch()
    stage.world.beat(step=100)
    store, names = FakeCountingStore(), stage.world.plan.trials
    store.objects.update(stage.world.store.objects)
    first = stage.defer()
    triggered = [Ec2TrialTrigger(first.plan, name, first.evidence) for name in names]
    evaluated(stage.world, 40_960, 480.0)
    store.objects.update(stage.world.store.objects)

    async def look() -> list[str]:
        watch = SharedWatch(lambda: TrialWatch(store, Machines(stage.world.ec2, "dev")))
        return await asyncio.gather(*(one._why_stop(watch, stage.world.plan) for one in triggered))

    found = asyncio.run(look())
    assert [name for name, stop in zip(names, found, strict=True) if stop] == ["seed-0"]
    assert (store.lists, store.gets) == (1, 2)


def test_the_list_of_a_run_separates_trials_with_a_common_prefix() -> None:
    """The prefix of `seed-1` also matches keys of `seed-1-0`, which are told apart."""
    world = World(early_stop=RULE)
    for name in ("select-seed-1-512", "select-seed-1-0-512", "gate", "select-seed-1-x"):
        world.store.put(shard_key(world.experiment.name, world.spec.run, name, 0), b"")
    found = find_shards(world.store, world.plan)
    assert {trial: list(steps) for trial, steps in found.items()} == {
        "seed-1": [512],
        "seed-1-0": [512],
    }
    assert find_shards(world.store, world.plan, "seed-1")["seed-1"] == found["seed-1"]


def test_a_reading_that_failed_is_not_kept() -> None:
    """A read spec is kept for an hour, a failed read only for moments."""
    answer: Any = None
    assert not SharedReading(0.0, answer).is_stale(4000.0, 3600.0), "it is still being read"
    failed = SharedReading(0.0, answer, answered_at=0.0, failed=True)
    assert [failed.is_stale(now, 3600.0) for now in (1.0, 10.0)] == [False, True]


def test_a_reading_that_failed_is_read_again_and_one_that_did_not_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Everyone shares the result: an error for moments, an answer for the requested time."""
    monkeypatch.setattr(watching, "SHARED_S", 0.0)
    begun: list[int] = []

    def read(_: object) -> int:
        begun.append(1)
        if len(begun) == 1:
            raise ConnectionError("no")
        return len(begun)

    async def ask() -> list[object]:
        watch = SharedWatch(lambda: TrialWatch(FakeCountingStore(), Machines(None, "dev")))
        return [
            await asyncio.gather(
                watch.read_once("spec", read, every_s=3600.0), return_exceptions=True
            )
            for _ in range(3)
        ]

    failed, *read_well = asyncio.run(ask())
    assert isinstance(failed, list)
    assert isinstance(failed[0], ConnectionError)
    assert read_well == [[2], [2]]


def test_a_reading_that_took_long_rests_long() -> None:
    """A LIST takes at most a twentieth of the triggerer's time, counted from its answer."""
    answer: Any = None
    slow, quick = (
        SharedReading(0.0, answer, answered_at=2.0),
        SharedReading(0.0, answer, answered_at=0.1),
    )
    assert [slow.is_stale(now, 5.0) for now in (6.9, 41.0, 42.0)] == [False, False, True]
    assert [quick.is_stale(now, 5.0) for now in (5.0, 5.1)] == [False, True]


def test_a_slow_reading_is_shared_by_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller during a read waits for it, and a later caller starts another."""
    monkeypatch.setattr(watching, "SHARED_S", 0.0)
    monkeypatch.setattr(watching, "REST_FACTOR", 0)
    begun, answers = [], threading.Event()

    def read(_: object) -> int:
        begun.append(1)
        assert answers.wait(60)
        return len(begun)

    async def ask() -> list[int]:
        watch = SharedWatch(lambda: TrialWatch(FakeCountingStore(), Machines(None, "dev")))
        asked = []
        for _ in range(4):
            asked.append(asyncio.ensure_future(watch.read_once("curves", read, every_s=0.0)))
            await asyncio.sleep(0.05)
        answers.set()
        return [*await asyncio.gather(*asked), await watch.read_once("curves", read, every_s=0.0)]

    assert asyncio.run(ask()) == [1, 1, 1, 1, 2]


def test_the_deferred_task_looks_at_its_curve_when_a_segment_ends_or_a_minute_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The task reads its curve after a segment or a minute, not at each look."""
    stage = Stage(monkeypatch, early_stop=RULE)
    stage.world.time = datetime.now(UTC)
    stage.launch()
    stage.world.beat(step=100)
    trigger, looked = stage.defer(), []
    real = Ec2TrialTrigger._why_stop
    monkeypatch.setattr(
        Ec2TrialTrigger,
        "_why_stop",
        lambda trigger, *arguments: looked.append(1) or real(trigger, *arguments),
    )

    async def look() -> None:
        watch, evidence = SharedWatch(stage.watch), Evidence.model_validate(trigger.evidence)
        for expected in (1, 1, 1):
            evidence = await trigger._see(watch, stage.world.plan, evidence)
            assert len(looked) == expected
        stage.world.beat(step=40_960, segment=1)
        for expected in (2, 2):
            evidence = await trigger._see(watch, stage.world.plan, evidence)
            assert len(looked) == expected
        monkeypatch.setattr(triggers, "CURVE_S", 0.0)
        await trigger._see(watch, stage.world.plan, evidence)
        assert len(looked) == 3

    asyncio.run(look())
