"""A hundred waiting triggers from Airflow's database make few calls to AWS."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.models.trigger import Trigger
from airflow.serialization.decoders import smart_decode_trigger_kwargs

from rl_airflow.machines.instances import Machines
from rl_airflow.run.run_resources import RunPlan
from rl_airflow.trials import shared_watch as watching
from rl_airflow.trials import trigger as triggers
from rl_airflow.trials.shared_watch import TrialWatch
from rl_airflow.trials.trigger import Ec2TrialTrigger
from rl_lifecycle.machines.machine_attempts import Attempt
from rl_lifecycle.records.record import canonical_json
from rl_lifecycle.storage.layout import curve_key, trainer_log_key
from rl_lifecycle.storage.object_store import ObjectInfo, StoredObject
from rl_lifecycle.trials.evidence import Evidence
from tests.plugins.trials.test_early_stops import RULE, evaluated
from tests.plugins.trials.test_trials import Stage
from tests.plugins.worlds import FakeStore

COUNT = 100


class FakeCountingStore(FakeStore):
    """A bucket that counts its calls by kind and class."""

    def __init__(self, before: FakeStore) -> None:
        super().__init__()
        self.objects, self.calls = before.objects, Counter[str]()

    def find(self, key: str) -> StoredObject | None:
        """Read a key."""
        self.calls[f"GET {key.partition('/')[0]}"] += 1
        return super().find(key)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List keys."""
        self.calls[f"LIST {prefix.partition('/')[0]}"] += 1
        return super().list(prefix)


class Crowd:
    """A hundred training machines and their triggers, restored from Airflow's database format."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stage = Stage(monkeypatch, early_stop=RULE, trials=COUNT, compute={"budget_usd": 1000})
        self.world, self.ec2 = stage.world, stage.world.ec2
        self.world.time = datetime.now(UTC)
        for name in self.world.plan.trials:
            stage.launch(name)
            self.world.beat(step=100, trial=name)
        first = stage.defer()
        self.bucket = FakeCountingStore(self.world.store)
        monkeypatch.setattr(
            stage, "watch", lambda: TrialWatch(self.bucket, Machines(self.ec2, "dev"))
        )
        monkeypatch.setattr(triggers, "until_next", lambda pause, now: 0.2)
        monkeypatch.setattr(triggers, "SHARED_S", 60.0)
        monkeypatch.setattr(watching, "CALM_READS", COUNT)
        known = Evidence.model_validate(first.evidence)
        self.triggers = [
            _revived(
                Ec2TrialTrigger.of(
                    self.world.plan,
                    name,
                    known.model_copy(update={"attempts": (self._attempt(name),)}),
                )
            )
            for name in self.world.plan.trials
        ]

    def _attempt(self, name: str) -> Attempt:
        return self.world.supervisor(name).attempts.read()[0].attempt

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[list["asyncio.Future[Any]"]]:
        """Run all triggers past their first looks."""
        running = [asyncio.ensure_future(anext(trigger.run())) for trigger in self.triggers]
        try:
            await self.polls(3)
            yield running
        finally:
            for one in running:
                one.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def polls(self, n: int) -> Counter[str]:
        """Let them look several times.

        :return: the calls that they made
        """
        self.ec2.calls.clear()
        self.bucket.calls.clear()
        while self.ec2.calls.count("DescribeInstances") <= n:
            await asyncio.sleep(0.01)
        return self.bucket.calls + Counter({"DescribeInstances": n})


def _revived(trigger: Ec2TrialTrigger) -> Ec2TrialTrigger:
    """Serialise and restore the trigger as Airflow does, so that triggers share no object."""
    arguments = Trigger.from_object(trigger).kwargs
    return Ec2TrialTrigger(
        **{name: smart_decode_trigger_kwargs(value) for name, value in arguments.items()}
    )


def test_a_triggers_arguments_do_not_grow_with_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Airflow compares all triggers each second, so their arguments stay small."""
    stage = Stage(monkeypatch)
    stage.launch()
    stage.world.beat(step=100)
    alone, plan = stage.defer(), stage.world.plan
    known = Evidence.model_validate(alone.evidence)
    many = plan.model_copy(update={"trials": tuple(f"seed-{number}" for number in range(1000))})
    trigger = _revived(Ec2TrialTrigger.of(many, "seed-7", known))
    assert (
        len(canonical_json(trigger.serialize()[1]))
        <= len(canonical_json(alone.serialize()[1]))
        < 2500
    )
    assert (trigger.plan["trials"], trigger.turn) == (["seed-7"], 7)
    assert [one["request"] for one in trigger.evidence["attempts"]] == [{}]
    asked = stage.world.supervisor("seed-0").attempts.read()[0].attempt
    assert Evidence.model_validate(trigger.evidence).attempts == (
        asked.model_copy(update={"request": {}}),
    )


@pytest.mark.parametrize("stored_before", [False, True])
def test_trials_that_wait_for_a_place_look_in_the_plans_order(
    monkeypatch: pytest.MonkeyPatch, stored_before: bool
) -> None:
    """A trigger of an earlier version, which names all trials and no turn, also works."""
    stage = Stage(monkeypatch)
    stage.launch()
    known = Evidence.model_validate(stage.defer().evidence)
    plan = stage.world.plan.model_copy(
        update={
            "trials": tuple(f"seed-{number}" for number in range(9)),
            "ledger_key": "ledger.json",
        }
    )
    trigger = (
        Ec2TrialTrigger(plan.to_xcom(), "seed-7", known.model_dump(mode="json"))
        if stored_before
        else Ec2TrialTrigger.of(plan, "seed-7", known)
    )
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def read_ledger(_: str) -> None:
        return None

    monkeypatch.setattr(asyncio, "sleep", sleep)
    watch: Any = SimpleNamespace(read_ledger=read_ledger)
    assert asyncio.run(
        trigger._find_places(watch, RunPlan.model_validate(trigger.plan), [known])
    ) == [True]
    assert slept == [7 * triggers.TURN_S]


def test_a_poll_of_many_trials_asks_once_for_all_and_reads_only_what_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A poll makes one DescribeInstances and one LIST, and reads only changed objects."""
    crowd = Crowd(monkeypatch)
    world, trial = crowd.world, crowd.world.trial("seed-7")

    async def wait() -> tuple[Counter[str], Counter[str], int]:
        async with crowd.waiting() as running:
            calm = await crowd.polls(4)
            world.store.put(trainer_log_key(trial, 1), b'{"message": "segment 1"}\n')
            world.store.put(
                curve_key(trial, world.spec.segment_timesteps),
                b'{"step": 40960, "rollout/ep_rew_mean": 9}\n',
            )
            world.beat(step=41_000, trial="seed-7", segment=1)
            busy = await crowd.polls(4)
            return calm, busy, sum(one.done() for one in running)

    calm, busy, fired = asyncio.run(wait())
    lists = calm.pop("LIST heartbeats"), busy.pop("LIST heartbeats")
    assert all(4 <= n <= 5 for n in lists), lists
    assert calm == {"DescribeInstances": 4}
    assert busy == {"DescribeInstances": 4, "GET heartbeats": 1, "GET logs": 1, "GET metrics": 1}
    assert fired == 0


def test_a_curve_that_grows_wakes_its_own_trial_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the new shard is read."""
    crowd = Crowd(monkeypatch)

    async def wait() -> tuple[Counter[str], list[int]]:
        async with crowd.waiting() as running:
            evaluated(crowd.world, 40_960, 480.0)
            monkeypatch.setattr(triggers, "CURVE_S", 0.0)
            found = await crowd.polls(4)
            return found, [number for number, one in enumerate(running) if one.done()]

    found, fired = asyncio.run(wait())
    assert fired == [0]
    assert (found["GET evaluations"], found["GET specs"], found["GET heartbeats"]) == (1, 0, 0)
    # One after each of the five DescribeInstances, and one of the poll that was under way.
    assert 1 <= found["LIST evaluations"] <= 6
